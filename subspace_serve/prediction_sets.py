"""The mathematics of prediction sets: split conformal prediction (Angelopoulos and Bates 2021, sections 1 and 2).

Each label of an image has a score, which is smaller the better it fits. Scores of the right labels of n images that had
no part in making the network are kept. The set of a new image holds every label that scores no more than the k-th
smallest of them, k = ceil((n + 1) coverage): if the new image is exchangeable with the n, its right label is in the set
with at least that probability, whatever the network. Measuring and serving share this code. Classes are on the last
axis, and nothing is random, so that an image's set depends on the image alone.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import numpy as np

Method = Literal["lac", "aps", "raps"]
MOST_SCORES = 1000
"""How many scores are kept at most."""


def label_scores(
    probabilities: np.ndarray, method: Method, *, k_reg: int | None = None, penalty: float | None = None
) -> np.ndarray:
    """Return the score of every label, at least 0. Shape (N, classes).

    `lac` is 1 - p (Sadinle et al. 2019); `aps` the probability of the label and of all more probable ones (Romano et
    al. 2020, without randomisation); `raps` adds `penalty` for each rank of the label beyond `k_reg` (Angelopoulos et
    al. 2021, "Uncertainty Sets for Image Classifiers using Conformal Prediction"). The most probable label scores 0,
    whatever the method. So it is in every set, and none is empty; since images that calibrate are scored in the same
    way, this costs no coverage and adds none, but for the answers that are right oftener than the coverage asked for.

    Args:
        probabilities: of the answers, shape (N, classes).
        method: which score.
        k_reg: a rank, from 1; of `raps` alone.
        penalty: not negative; of `raps` alone.
    """
    rows = np.arange(len(probabilities))
    if method == "lac":
        scores = 1 - probabilities
    else:
        order = np.argsort(-probabilities, axis=1, kind="stable")  # as an answer lists its labels
        sums = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
        if method == "raps" and k_reg is not None and penalty is not None:
            sums += penalty * np.maximum(np.arange(1, sums.shape[1] + 1) - k_reg, 0)
        scores = np.empty_like(sums)
        np.put_along_axis(scores, order, sums, axis=1)
    np.maximum(scores, 0, out=scores)  # a probability may have been rounded to a little more than 1
    scores[rows, probabilities.argmax(axis=1)] = 0
    return scores


@lru_cache(maxsize=256)
def rank_of(coverage: float, count: int) -> int:
    """Return k = ceil((count + 1) coverage), which is more than `count` where so few images do not support it."""
    # As the number is written: 0.55 x 20 is 11, which floating point makes a little more.
    return math.ceil((count + 1) * Fraction(str(float(coverage))))


def images_for(coverage: float) -> int:
    """Return how many images a coverage takes: the smallest n with ceil((n + 1) coverage) <= n."""
    wanted = Fraction(str(float(coverage)))
    return math.ceil(wanted / (1 - wanted))


def largest_coverage(count: int) -> float:
    """Return the largest coverage that so many images support, rounded down to a thousandth."""
    return math.floor(1000 * count / (count + 1)) / 1000


def complaint_about(coverage: float, count: int | None = None) -> str | None:
    """Return why sets of a coverage cannot be promised, and what to do; None where they can.

    Args:
        coverage: what is asked for.
        count: how many images calibrate; None where that is not known.
    """
    if not 0 < coverage < 1:  # so that NaN is refused too
        return f"a coverage lies between 0 and 1, such as 0.9; got {coverage}"
    if count is None or rank_of(coverage, count) <= count:
        return None
    return (
        f"a coverage of {float(coverage)} takes {images_for(coverage)} calibration images, and there are {count}; ask "
        f"for {largest_coverage(count):g} or less, or export again with more images (--sets-data)"
    )


def kept_scores(scores: np.ndarray) -> np.ndarray:
    """Return the sorted scores; of more than `MOST_SCORES` those at evenly spaced ranks, the largest among them."""
    ordered: np.ndarray = np.sort(scores)
    return ordered[_kept_ranks(len(scores)) - 1]


def threshold_of(kept: np.ndarray | tuple[float, ...], count: int, coverage: float) -> float:
    """Return the smallest kept score whose rank among all `count` is at least k, so that the promise holds.

    Args:
        kept: what `kept_scores` returned of `count` scores.
        count: how many there were.
        coverage: in (0, 1), which `count` images must support (`rank_of`).
    """
    return float(kept[int(np.searchsorted(_kept_ranks(count), rank_of(coverage, count)))])


def _kept_ranks(count: int) -> np.ndarray:
    """Return the ranks, from 1, of the scores that are kept of `count`."""
    kept = min(count, MOST_SCORES)
    return -(-np.arange(1, kept + 1) * count // kept)
