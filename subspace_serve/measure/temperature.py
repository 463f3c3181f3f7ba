"""Temperature scaling: one number that fits a classifier's confidence to its accuracy (Guo et al. 2017, section 4.2).

One rule for points and ensembles: the temperature T acts on the final answer. Its probabilities p become p^(1/T),
normalised, which for a single network is softmax(logits / T). An ensemble's members are averaged without temperatures.
T does not change which class is the most probable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from subspace_serve.answers import apply_temperature, logarithm, softmax
from subspace_serve.data import Images
from subspace_serve.data.drawing import carve
from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import classification_metrics

LOWEST, HIGHEST = 0.05, 20.0
"""The range in which a temperature is searched for."""

_HALVINGS = 30
"""Bisection steps on the logarithm of the temperature: they determine it to within a relative 1e-8."""

_AT_BOUND = 1e-3


@dataclass(frozen=True, eq=False)
class TemperatureData:
    """Labelled images on which temperatures are fitted and reported; never the test set.

    Attributes:
        images: of the domain where the bundle will be served.
        name: what they are, for the record.
        seed: decides which half fits and which reports.
    """

    images: Images
    name: str
    seed: int = 0


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature, and what it does to images that it was not fitted on.

    Attributes:
        temperature: of the answer; 1 leaves it as it is.
        count: how many images it was fitted on.
        reported_on: how many others `before` and `after` were measured on.
        before: `accuracy`, `nll`, `ece` and `brier` at temperature 1.
        after: the same at this temperature.
        at_bound: the fit ran to the end of the range, so the images do not determine the temperature.
    """

    temperature: float
    count: int
    reported_on: int
    before: dict[str, float]
    after: dict[str, float]
    at_bound: bool


def fit_temperature(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature in [0.05, 20] at which the labels are most likely.

    The negative log-likelihood of softmax(x / T) is convex in 1/T, so its slope is negative on one side of the minimum
    and positive on the other, and bisection finds where the sign changes. Where every image is classified correctly,
    the likelihood keeps rising as T falls, and the lowest allowed is returned.

    Args:
        log_probabilities: the final answers x, up to a constant in each row, so that a single network's logits will do.
            Shape (N, classes).
        labels: integers, shape (N,).

    Raises:
        DataError: there are no images, a number is not finite, or the labels do not fit.
    """
    values, labels = np.asarray(log_probabilities, dtype=np.float64), np.asarray(labels)
    if values.ndim != 2 or 0 in values.shape or labels.shape != values.shape[:1]:
        raise DataError(
            "A temperature is fitted to answers (N, classes) and labels (N,) of at least one image; "
            f"found shapes {values.shape} and {labels.shape}; give labelled images."
        )
    if not np.isfinite(values).all():
        raise DataError(
            f"A temperature is fitted to finite numbers; found {np.count_nonzero(~np.isfinite(values))} that are not; "
            "the network or its BatchNorm statistics are broken."
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= values.shape[1]:
        raise DataError(
            f"Labels must be integers from 0 to {values.shape[1] - 1}; found {labels.dtype} from {labels.min()} "
            f"to {labels.max()}; give labels of the network's classes."
        )
    below_top = values - values.max(axis=1, keepdims=True)
    of_labels = below_top[np.arange(len(labels)), labels].mean()

    def wants_surer(temperature: float) -> bool:
        """Whether the labels become no less likely as the temperature falls: the slope in 1/T is not positive."""
        expected = (softmax(below_top / temperature) * below_top).sum(axis=1).mean()
        return bool(expected <= of_labels)

    if wants_surer(LOWEST):
        return LOWEST
    if not wants_surer(HIGHEST):
        return HIGHEST
    low, high = math.log(LOWEST), math.log(HIGHEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if wants_surer(math.exp(middle)) else (middle, high)
    return math.exp((low + high) / 2)


def fit_and_report(probabilities: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> FittedTemperature:
    """Fit a temperature on one half of the images and measure it on the other, divided class by class.

    Where the images do not determine it, the choice errs on the side of less confidence: 1 when they call for ever more
    confident answers (as a half without a mistake does), the highest allowed when for ever less confident ones.

    Args:
        probabilities: the final answers, of a point or an ensemble. Shape (N, classes).
        labels: integers, shape (N,).
        seed: of the division.

    Raises:
        DataError: as `fit_temperature`, or no class has an image for each half.
    """
    labels = np.asarray(labels)
    check_divisible(labels)
    # Divided as `select` does: with its seed, the half that was chosen on fits, and the other half reports.
    reporting, fitting = carve(labels, len(labels) // 2, seed)
    found = fit_temperature(logarithm(probabilities[fitting]), labels[fitting])
    lowest, highest = found <= LOWEST * (1 + _AT_BOUND), found >= HIGHEST * (1 - _AT_BOUND)
    temperature = 1.0 if lowest else found
    return FittedTemperature(
        temperature=temperature,
        count=len(fitting),
        reported_on=len(reporting),
        before=classification_metrics(probabilities[reporting], labels[reporting]),
        after=classification_metrics(apply_temperature(probabilities[reporting], temperature), labels[reporting]),
        at_bound=lowest or highest,
    )


def check_divisible(labels: np.ndarray) -> None:
    """Raise `DataError` when no class has an image for each half."""
    most = int(np.bincount(labels).max()) if len(labels) else 0
    if most < 2:
        raise DataError(
            "A temperature is fitted on one half of the images and reported on the other, class by class; found "
            f"{len(labels)} images, at most {most} of a class; give more."
        )
