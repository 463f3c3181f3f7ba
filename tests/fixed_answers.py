"""Networks whose answers are given, so that what is chosen among them is known; and what is chosen on a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from subspace_serve.data import MemoryImages
from subspace_serve.data.domains import Domain
from subspace_serve.measure.metrics import Scores
from subspace_serve.measure.networks import Candidate
from subspace_serve.run.opened import OpenRun
from subspace_serve.select import select


def scores_with(accuracy: np.ndarray) -> Scores:
    count = len(accuracy)
    return Scores(accuracy.astype(float), 1 - accuracy, 1 - accuracy, np.full(count, 0.5))


def answers(rates: list[float], count: int, seed: int = 0) -> list[Scores]:
    """Candidates that are right at these rates, on common difficulties of the images."""
    random = np.random.default_rng(seed)
    difficulty = random.random(count)
    noise = random.normal(0, 0.02, (len(rates), count))
    return [scores_with((difficulty + wobble < rate).astype(float)) for rate, wobble in zip(rates, noise, strict=True)]


class FixedAnswers:
    """Networks whose answers are given: image i of the set has its index as the only pixel."""

    def __init__(self, scores: dict[Candidate, Scores]) -> None:
        self.scores = scores
        self.measured = 0

    def score(self, candidates, images) -> list[Scores]:
        indices = np.concatenate([pixels[:, 0, 0, :] @ [1, 256] for pixels, _ in images.batches(100)])
        self.measured += len(candidates) * len(indices)
        return [self.scores[candidate].subset(indices.astype(int)) for candidate in candidates]


def numbered_images(count: int) -> MemoryImages:
    numbers = np.arange(count)
    pixels = np.stack([numbers % 256, numbers // 256], axis=1).astype(np.uint8)
    return MemoryImages(pixels[:, None, None, :], np.zeros(count, np.int64))


def run_select(folder: Path, **settings) -> dict:
    """Select on a run, on its validation images and on a coarse grid unless `settings` say otherwise."""
    run = OpenRun(folder)
    domains = settings.pop("domains", None) or [Domain("best", run.data.validation, {"data": "validation"})]
    settings = {"points": 3, "refine": 0} | settings
    return select(run.network, domains, calibration=run.calibration, **settings)
