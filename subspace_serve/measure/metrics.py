"""How good predictions are: accuracy, likelihood, calibration, and how far two members differ.

Logits and probabilities are (N, classes), labels (N,) integers. Everything is computed in float64. Of each image's
prediction a few numbers are kept (`Scores`), from which every metric and its uncertainty follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subspace_serve.answers import logarithm
from subspace_serve.errors import DataError

CALIBRATION_BINS = 15
METRICS = {"accuracy": 1, "nll": -1, "ece": -1, "brier": -1}
"""The metrics, and whether more (1) or less (-1) of each is better."""

DEBIASED_ECE = "debiased squared calibration error"
"""What candidates are compared by where the metric is `ece` (`Scores.compared`), as a selection records it."""


@dataclass(frozen=True)
class Scores:
    """What each image contributes to the metrics. All arrays are float64 of shape (N,).

    Attributes:
        accuracy: 1 where the most probable class is the label, else 0.
        nll: -log p(label), in nats. A probability of 0 counts as the smallest normal float64 (about 708 nats), so
            that one confident mistake does not make the mean infinite.
        brier: squared error to the one-hot label, summed over classes, in [0, 2] (Brier 1950).
        confidence: the largest probability.
    """

    accuracy: np.ndarray
    nll: np.ndarray
    brier: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.accuracy)

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """Return the scores of all images of `parts`, in that order."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def subset(self, indices: np.ndarray | slice) -> Scores:
        """Return the scores of some of the images."""
        return Scores(*(getattr(self, name)[indices] for name in self.__dataclass_fields__))

    def of(self, metric: str) -> np.ndarray:
        """Return each image's share of a metric that is a mean over images (all but `ece`). Shape (N,)."""
        return {"accuracy": self.accuracy, "nll": self.nll, "brier": self.brier}[metric]

    def metrics(self) -> dict[str, float]:
        """Return `accuracy`, `nll`, `ece` and `brier`."""
        return {metric: float(self.weighted(metric, np.ones((1, len(self))))[0]) for metric in METRICS}

    def weighted(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """Return a metric under several weightings of the images, as a bootstrap draws them. Shape (R, N) to (R,)."""
        sums: np.ndarray = np.abs(weights @ self._gaps()).sum(axis=1) if metric == "ece" else weights @ self.of(metric)
        means: np.ndarray = sums / weights.sum(axis=1)
        return means

    def compared(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """Return what candidates are compared by under several weightings: the metric, but for `ece` its debiased form.

        The expected calibration error sums absolute gaps, so chance alone makes it positive, and resampling adds as
        much again. In its place this returns the squared calibration error over the same bins without that bias
        (Kumar, Liang and Ma 2019, "Verified Uncertainty Calibration"), written as a mean over pairs of different
        images: no image is paired with itself, even where a resample holds it twice. It may be slightly negative; a bin
        with fewer than two different images counts 0. Shape (R, N) to (R,).
        """
        if metric != "ece":
            return self.weighted(metric, weights)
        gaps, squares = self._gaps(), np.square(weights)
        inside = np.eye(CALIBRATION_BINS)[self._bins()]
        counts = weights @ inside
        pairs = np.square(counts) - squares @ inside
        products = np.square(weights @ gaps) - squares @ np.square(gaps)
        squared = np.divide(products, pairs, out=np.zeros_like(products), where=pairs > 0)
        means: np.ndarray = (counts * squared).sum(axis=1) / weights.sum(axis=1)
        return means

    def value(self, metric: str) -> float:
        """Return what candidates are compared by on all images (`compared`), so that more is better."""
        return METRICS[metric] * float(self.compared(metric, np.ones((1, len(self))))[0])

    def reliability(self) -> list[dict[str, float]]:
        """Return each bin's mean `confidence`, `accuracy` and `count` for a reliability diagram (Guo et al. 2017).

        A bin without images gets its middle as confidence, and accuracy 0.
        """
        bins = self._bins()
        diagram = []
        for index in range(CALIBRATION_BINS):
            inside = bins == index
            count = int(inside.sum())
            diagram.append(
                {
                    "confidence": float(self.confidence[inside].mean()) if count else (index + 0.5) / CALIBRATION_BINS,
                    "accuracy": float(self.accuracy[inside].mean()) if count else 0.0,
                    "count": count,
                }
            )
        return diagram

    def _bins(self) -> np.ndarray:
        """Return each image's bin; the bins are (0, 1/15], (1/15, 2/15] and so on."""
        bins: np.ndarray = np.ceil(self.confidence * CALIBRATION_BINS).astype(np.int64) - 1
        return bins.clip(0, CALIBRATION_BINS - 1)

    def _gaps(self) -> np.ndarray:
        """Return each image's accuracy minus its confidence, in the column of its bin. Shape (N, bins).

        The expected calibration error is the sum of the absolute column sums over N (Guo et al. 2017, equation 3).
        """
        gaps = np.zeros((len(self), CALIBRATION_BINS))
        gaps[np.arange(len(self)), self._bins()] = self.accuracy - self.confidence
        return gaps


def score(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    """Score predictions image by image.

    Raises:
        DataError: the rows are not probabilities, or the labels do not fit them.
    """
    probabilities, labels = checked(probabilities, labels)
    of_label = probabilities[np.arange(len(labels)), labels]
    # The squared error to a one-hot label: sum of p^2, with p(label)^2 replaced by (1 - p(label))^2.
    brier = np.square(probabilities).sum(axis=1) - np.square(of_label) + np.square(1 - of_label)
    return Scores(
        accuracy=(probabilities.argmax(axis=1) == labels).astype(np.float64),
        nll=-logarithm(of_label),
        brier=brier,
        confidence=np.minimum(probabilities.max(axis=1), 1),
    )


def classification_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return `accuracy`, `nll`, `ece` and `brier` of predictions: `score(...).metrics()`.

    Raises:
        DataError: the rows are not probabilities, or the labels do not fit them.
    """
    return score(probabilities, labels).metrics()


def checked(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check that both fit each other; return them as arrays, the probabilities in float64."""
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or 0 in probabilities.shape or labels.shape != probabilities.shape[:1]:
        raise DataError(
            "Metrics need probabilities (N, classes) and labels (N,) of at least one image; "
            f"found shapes {probabilities.shape} and {labels.shape}."
        )
    sums = probabilities.sum(axis=1)
    if not (probabilities.min() >= 0 and np.abs(sums - 1).max() < 1e-3):  # so that NaN fails too
        raise DataError(
            "Each row of probabilities must be non-negative and sum to 1; "
            f"found a minimum of {probabilities.min():.4g} and sums from {sums.min():.4g} "
            f"to {sums.max():.4g}; were these logits?"
        )
    classes = probabilities.shape[1]
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"Labels must be integers from 0 to {classes - 1}; found {labels.dtype} "
            f"from {labels.min()} to {labels.max()}."
        )
    return probabilities, labels
