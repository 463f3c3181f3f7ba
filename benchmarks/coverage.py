"""Whether sets and abstaining keep their promise, over many calibrations: `python -m benchmarks.coverage RUN…`.

Takes trained lines whose data is Fashion-MNIST. Its 10,000 test images, clean and under nine corruptions, are answered
by the midpoint, the first end, and the ends as an ensemble, with the training statistics and with those that 128
unlabelled images of the corruption give (`adapt`'s rule; they are validation images). Each split then draws 1,000 test
images that calibrate, and measures on the others. A share of sets that hold is inside its band if it lies between the
2.5 and 97.5 % quantiles of the beta-binomial distribution that it has where calibrating and other images are alike.

Each run's figures are kept beside it and not measured again. Writes the tables of docs/decisions.md, and the picture
beside it, with `--page docs/decisions.md`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.stats import betabinom

from benchmarks.coverage_page import BEGIN, END, draw_picture, page
from benchmarks.measure import environment
from benchmarks.tables import replace_tables
from subspace_serve.abstention import choose, levels_of
from subspace_serve.answers import ensemble_probabilities
from subspace_serve.cli.output import progress_line
from subspace_serve.data import permutation
from subspace_serve.files import write_text
from subspace_serve.measure.abstention import risk_coverage
from subspace_serve.measure.conformal import calibrate
from subspace_serve.network.mixing import mixed, sampling_noise
from subspace_serve.network.statistics_set import StatisticsSet, compute_statistics, even_batches
from subspace_serve.prediction_sets import rank_of
from subspace_serve.run.domains import corrupted_domains
from subspace_serve.run.opened import OpenRun

CORRUPTIONS = (
    "gaussian_noise", "impulse_noise", "defocus_blur", "motion_blur", "fog", "brightness", "contrast", "pixelate",
    "jpeg_compression",
)  # fmt: skip
SEVERITY = 3
COVERAGES = (0.8, 0.9, 0.95, 0.99)
USUAL, MAX_RISK = 0.9, 0.05
SPLITS, CALIBRATING, UNLABELLED, CALIBRATION = 10, 1000, 128, 2048
CURVE = 100
"""Places of a risk-coverage curve that are kept."""

Answers = Mapping[str, np.ndarray]
"""Probabilities (N, classes) of each model."""


class Answering:
    """A run's networks, and what they answer to its test images."""

    def __init__(self, run: Path) -> None:
        self._run = OpenRun(run, calibration_count=CALIBRATION)
        network = self._run.network
        training = compute_statistics(network, self._run.calibration.pixels)
        images, _ = self._run.calibration.images.take(np.arange(CALIBRATION))
        self._training = replace(training, noise=sampling_noise(network, training, images))
        self.labels = self._run.data.test.labels

    def clean(self) -> Answers:
        """Return the answers to the clean images."""
        return self._answers(self._run.data.test.take(np.arange(len(self.labels)))[0], self._training)

    def corrupted(self) -> Iterator[tuple[str, Answers, Answers]]:
        """Yield each corruption's name, and the answers with the training statistics and with its own."""
        here = corrupted_domains(self._run, "test", CORRUPTIONS, [SEVERITY])
        seen = corrupted_domains(self._run, "validation", CORRUPTIONS, [SEVERITY])
        for name, domain, other in zip(CORRUPTIONS, here, seen, strict=True):
            pixels, _ = domain.images.take(np.arange(len(self.labels)))
            unlabelled, _ = other.images.take(np.arange(UNLABELLED))
            own = compute_statistics(self._run.network, partial(even_batches, unlabelled))
            adapted, _ = mixed(own, self._training, self._run.network.skeleton)
            yield name, self._answers(pixels, self._training), self._answers(pixels, adapted)

    def _answers(self, pixels: np.ndarray, statistics: StatisticsSet) -> Answers:
        network, geometry = self._run.network, self._run.network.geometry
        middle, *ends = (
            network.at(alpha, statistics.at(alpha)).logits(pixels) for alpha in (geometry.midpoint, *geometry.ends)
        )
        return {
            "midpoint": ensemble_probabilities([middle]),
            "end": ensemble_probabilities([ends[0]]),
            "ensemble of both ends": ensemble_probabilities(ends),
        }


def splits(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the images that calibrate and those that are measured, `SPLITS` times."""
    for seed in range(SPLITS):
        order = permutation(count, seed)
        yield order[:CALIBRATING], order[CALIBRATING:]


def band(coverage: float, measured: int) -> tuple[float, float]:
    """Return between which shares of sets that hold 95 % of splits lie (Angelopoulos and Bates 2021, section 3.2)."""
    rank = rank_of(coverage, CALIBRATING)
    low, high = betabinom.ppf([0.025, 0.975], measured, rank, CALIBRATING + 1 - rank) / measured
    return float(low), float(high)


def sets_over_splits(
    calibrating: np.ndarray, answers: np.ndarray, labels: np.ndarray, coverage: float, method: Any = "lac"
) -> dict[str, Any]:
    """Return the share of sets that hold and their mean size, over splits.

    Args:
        calibrating: answers (N, classes) whose scores calibrate, to the same images as `answers` or clean ones.
        answers: to the images that are asked about, (N, classes).
        labels: of both, (N,).
        coverage: that is asked for.
        method: the score of a label.
    """
    held, sizes = [], []
    for own, others in splits(len(labels)):
        sets = calibrate(calibrating[own], labels[own], method).sets(answers[others], coverage)
        held.append(float(sets[np.arange(len(others)), labels[others]].mean()))
        sizes.append(float(sets.sum(axis=1).mean()))
    low, high = band(coverage, len(labels) - CALIBRATING)
    return {
        "held": held,
        "size": float(np.mean(sizes)),
        "band": [low, high],
    }


def abstaining_over_splits(calibrating: np.ndarray, answers: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return the shares of images that are answered at a promised error rate, and of wrong ones among these."""
    answered, wrong = [], []
    for own, others in splits(len(labels)):
        level = choose(
            levels_of(calibrating[own].max(axis=1), calibrating[own].argmax(axis=1) == labels[own]), MAX_RISK
        )
        asked = answers[others]
        kept = asked.max(axis=1) > (2.0 if level is None else level.threshold)
        answered.append(float(kept.mean()))
        if kept.any():
            wrong.append(float((asked.argmax(axis=1) != labels[others])[kept].mean()))
    return {"answered": answered, "wrong": wrong}


def curve(answers: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return the risk-coverage curve of the largest probability, and its area."""
    found = risk_coverage(answers.max(axis=1), answers.argmax(axis=1) == labels)
    places = np.linspace(0, len(labels) - 1, CURVE + 1).astype(int)[1:]
    return {"aurc": found.aurc, "risks": found.risks[places].tolist()}


def measured(run: Path) -> dict[str, Any]:
    """Return everything that is measured of one run."""
    answering = Answering(run)
    labels = answering.labels
    clean = answering.clean()
    found: dict[str, Any] = {
        "error": {model: float((answers.argmax(axis=1) != labels).mean()) for model, answers in clean.items()},
        "coverage": {
            model: {str(asked): sets_over_splits(answers, answers, labels, asked) for asked in COVERAGES}
            for model, answers in clean.items()
        },
        "methods": {
            method: {
                str(asked): sets_over_splits(clean["midpoint"], clean["midpoint"], labels, asked, method)
                for asked in (USUAL, 0.99)
            }
            for method in ("lac", "aps", "raps")
        },
        "abstaining": {model: abstaining_over_splits(answers, answers, labels) for model, answers in clean.items()},
        "curves": {"clean": {model: curve(answers, labels) for model, answers in clean.items()}},
        "corruptions": {},
    }
    for name, before, after in answering.corrupted():
        progress_line(f"{run}: {name}")
        found["corruptions"][name] = {
            model: {
                how: {
                    "error": float((answers.argmax(axis=1) != labels).mean()),
                    "sets": sets_over_splits(calibrating, answers, labels, USUAL),
                    "abstaining": abstaining_over_splits(calibrating, answers, labels),
                }
                for how, calibrating, answers in (
                    ("before", clean[model], before[model]),
                    ("adapted", clean[model], after[model]),
                    ("adapted, labels", after[model], after[model]),
                )
            }
            for model in clean
        }
        found["curves"][name] = {
            how: {model: curve(answers, labels) for model, answers in given.items()}
            for how, given in (("before", before), ("adapted", after))
        }
    return found


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--page", "page_file", type=click.Path(exists=True, path_type=Path), help="Replace this page's tables.")
def main(runs: Sequence[Path], page_file: Path | None) -> None:
    """Measure runs, or read what was measured of them."""
    documents = []
    for run in runs:
        file = run / "coverage.json"
        if not file.exists():
            write_text(file, json.dumps({"environment": environment(), **measured(run)}, indent=1) + "\n")
        documents.append(json.loads(file.read_text()))
    click.echo(text := page(documents))
    if page_file is not None:
        replace_tables(page_file, f"\n\n{text}\n", BEGIN, END)
        draw_picture(documents, page_file.with_suffix(".png"))


if __name__ == "__main__":
    main()
