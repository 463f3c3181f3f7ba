"""Networks whose answers are given, so that what is chosen among them is known."""

from __future__ import annotations

import numpy as np

from subspace_serve.data import MemoryImages
from subspace_serve.measure.metrics import Scores
from subspace_serve.measure.networks import Candidate


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
