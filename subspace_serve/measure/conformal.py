"""Prediction sets from labelled images: the scores that are kept, RAPS's settings, and how often sets hold.

The mathematics is in `subspace_serve.prediction_sets`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from subspace_serve.data import Images
from subspace_serve.data.drawing import carve
from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import checked
from subspace_serve.prediction_sets import (
    Method,
    complaint_about,
    images_for,
    kept_scores,
    label_scores,
    rank_of,
    threshold_of,
)

USUAL_COVERAGE = 0.9
"""For which RAPS's settings are chosen, and coverage is measured."""
PENALTIES = (0.001, 0.01, 0.1, 0.2, 0.5)
"""Among which RAPS's is chosen, as in the published code."""
_TUNING_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class SetsData:
    """Labelled images on which prediction sets are calibrated; they chose nothing, and are never the test set.

    Attributes:
        images: of the domain where the bundle will be served.
        name: what they are, for the record.
        method: the score of a label: `lac`, `aps` or `raps`.
        seed: decides which of them choose RAPS's settings.
        like_evaluation: whether the evaluation's images are of the same kind, so that coverage can be measured there.
    """

    images: Images
    name: str
    method: Method = "lac"
    seed: int = 0
    like_evaluation: bool = True


@dataclass(frozen=True)
class ConformalScores:
    """What prediction sets of any coverage are made of.

    Attributes:
        method: the score of a label.
        count: how many images calibrate.
        scores: of their right labels, sorted, at most `subspace_serve.prediction_sets.MOST_SCORES`.
        k_reg, penalty: of RAPS; None for the others.
        tuned_on: on how many other images these two were chosen.
    """

    method: Method
    count: int
    scores: np.ndarray
    k_reg: int | None = None
    penalty: float | None = None
    tuned_on: int | None = None

    def sets(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Return the sets of images, bool (N, classes).

        Raises:
            DataError: the coverage is outside (0, 1), or so few images do not support it.
        """
        if complaint := complaint_about(coverage, self.count):
            raise DataError(complaint)
        scores = label_scores(probabilities, self.method, k_reg=self.k_reg, penalty=self.penalty)
        held: np.ndarray = scores <= threshold_of(self.scores, self.count, coverage)
        return held


@dataclass(frozen=True)
class Coverage:
    """How often sets of a coverage that was `asked` for hold the right label of other images.

    Attributes:
        images: how many.
        asked: the coverage that was promised.
        coverage: the share of sets that hold the right label.
        class_coverage: the same by class, None for a class without an image.
        mean_size: labels in a set, on average.
    """

    images: int
    asked: float
    coverage: float
    class_coverage: tuple[float | None, ...]
    mean_size: float


def calibrate(
    probabilities: np.ndarray, labels: np.ndarray, method: Method = "lac", *, seed: int = 0
) -> ConformalScores:
    """Score labelled images that had no part in making the network or its temperature.

    Of RAPS a fifth of them, divided class by class, chooses its settings, and the rest calibrates.

    Args:
        probabilities: the answers, shape (N, classes).
        labels: integers, shape (N,).
        method: `lac`, `aps` or `raps`.
        seed: of the division.

    Raises:
        DataError: the rows are not probabilities, the labels do not fit them, or RAPS has too few images.
    """
    probabilities, labels = checked(probabilities, labels)
    k_reg = penalty = tuned_on = None
    if method == "raps":
        rest, tuning = carve(labels, round(_TUNING_SHARE * len(labels)), seed)
        needed = images_for(USUAL_COVERAGE)
        if len(tuning) < needed or not len(rest):
            raise DataError(
                f"raps chooses its settings on a fifth of the images, {needed} or more; found {len(tuning)} of "
                f"{len(labels)}: give {round(needed / _TUNING_SHARE)} or more, or choose lac or aps"
            )
        k_reg, penalty = raps_settings(probabilities[tuning], labels[tuning])
        tuned_on = len(tuning)
        probabilities, labels = probabilities[rest], labels[rest]
    scores = label_scores(probabilities, method, k_reg=k_reg, penalty=penalty)
    own = scores[np.arange(len(labels)), labels]
    return ConformalScores(method, len(labels), kept_scores(own), k_reg, penalty, tuned_on)


def raps_settings(probabilities: np.ndarray, labels: np.ndarray) -> tuple[int, float]:
    """Return the rank beyond which RAPS penalises, and the penalty that gives the smallest sets on these images.

    The rank is the conformal quantile of the right labels' ranks at a coverage of 0.9 (Angelopoulos et al. 2021,
    algorithm 4), and the sets are those of that coverage.

    Args:
        probabilities: the answers, shape (N, classes); N supports a coverage of 0.9.
        labels: integers, shape (N,).
    """
    count, rows = len(labels), np.arange(len(labels))
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranks = np.sort((order == labels[:, np.newaxis]).argmax(axis=1) + 1)
    k_reg = int(ranks[rank_of(USUAL_COVERAGE, count) - 1])

    def size(penalty: float) -> float:
        scores = label_scores(probabilities, "raps", k_reg=k_reg, penalty=penalty)
        threshold = threshold_of(kept_scores(scores[rows, labels]), count, USUAL_COVERAGE)
        return float((scores <= threshold).sum(axis=1).mean())

    return k_reg, min(PENALTIES, key=size)


def measure_coverage(
    found: ConformalScores, probabilities: np.ndarray, labels: np.ndarray, coverage: float = USUAL_COVERAGE
) -> Coverage | None:
    """Measure sets on images that did not calibrate them; None where the coverage is not supported.

    Args:
        found: what the sets are made of.
        probabilities: the answers to the other images, shape (N, classes).
        labels: integers, shape (N,).
        coverage: the one that is asked for.

    Raises:
        DataError: the rows are not probabilities, or the labels do not fit them.
    """
    probabilities, labels = checked(probabilities, labels)
    if rank_of(coverage, found.count) > found.count:
        return None
    sets = found.sets(probabilities, coverage)
    held = sets[np.arange(len(labels)), labels]
    by_class = [held[labels == label] for label in range(probabilities.shape[1])]
    return Coverage(
        images=len(labels),
        asked=coverage,
        coverage=float(held.mean()),
        class_coverage=tuple(float(own.mean()) if len(own) else None for own in by_class),
        mean_size=float(sets.sum(axis=1).mean()),
    )
