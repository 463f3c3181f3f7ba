"""The mathematics of the drift alarm: a bet, image by image, against answers staying as they were.

Every image gives a few statistics, and each of them a p-value: its rank among the calibration images and all images
seen before, ties broken at random (Vovk et al. 2005, "Algorithmic Learning in a Random World", theorem 8.2). While
images are exchangeable, the p-values of a statistic are independent and uniform, however many there are; ranks among
the calibration images alone would not be, and over a long stream would raise an alarm about the calibration's own
sampling error. Statistics fall into the bins of a fixed grid, so counts of bins are all that has to be kept, and
nothing is lost but the order within a bin, which chance decides.

Fixed bets multiply a stake by f(p), where f has the mean 1 (Vovk 2021, "Testing randomness online"). The stake is
spread beforehand over all bets and over all images at which they may begin, since one that had begun long before a
change would have lost everything by then. A statistic's wealth, the sum, is a martingale: it ever becomes c times what
it was at first with a probability of at most 1 / c (Ville 1939). A statistic's p-values are independent of each other
but not of another's, so that sums over statistics are no martingale. Therefore each begins with an equal part of 1, and
there is an alarm when the wealth of one of them is 20: by the union bound at most 5 % of all streams without a change
ever raise it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Statistic = Literal["max_probability", "disagreement", "mean_intensity"]
STATISTICS: tuple[Statistic, ...] = ("max_probability", "disagreement", "mean_intensity")
"""The largest probability of an answer; of ensembles, how far their members differ; and the mean of all pixels."""
OF_POINTS: tuple[Statistic, ...] = ("max_probability", "mean_intensity")
"""A single network's statistics."""
BINS = 256
FALSE_ALARMS = 0.05
"""The share of streams without a change that ever raise an alarm, at most."""

_LOGITS = 16.0
"""Probabilities and disagreement are binned by their logit, from -16 to 16, which tells 0.999 from 0.9999."""
_SIDE = 16
"""Of how many rows and columns of an image, at most, its mean is taken."""
_EXPONENTS = np.array([0.2, 0.5, 0.8])
_TINY = 2.0**-53
_CHUNK = 64


def values_of(probabilities: np.ndarray, disagreement: np.ndarray | None, intensities: np.ndarray) -> np.ndarray:
    """Return the statistics of answers, each in [0, 1]: `STATISTICS`, or without disagreement `OF_POINTS`.

    Args:
        probabilities: of the answers, shape (N, classes).
        disagreement: of the members of an ensemble, shape (N,); None of a single network.
        intensities: of the images, from `mean_intensities`, shape (N,).

    Returns:
        Shape (S, N).
    """
    largest = probabilities.max(axis=1)
    return np.stack([largest, intensities] if disagreement is None else [largest, disagreement, intensities])


def mean_intensities(images: np.ndarray) -> np.ndarray:
    """Return the mean over an image's pixels and channels in [0, 1], of every k-th row and column in large images.

    Shape (N,). Images are uint8 (N, H, W, C) or float32 (N, C, H, W) in [0, 1].
    """
    pixels = images.dtype == np.uint8
    height, width = images.shape[1:3] if pixels else images.shape[2:4]
    rows, columns = slice(None, None, -(-height // _SIDE)), slice(None, None, -(-width // _SIDE))
    thinned = images[:, rows, columns] if pixels else images[:, :, rows, columns]
    sums = thinned.reshape(len(images), -1).sum(axis=1, dtype=np.float64)
    means: np.ndarray = sums / (thinned[0].size * (255 if pixels else 1))
    return means


def bins_of(values: np.ndarray) -> np.ndarray:
    """Return the bins, from 0 to `BINS` - 1, of statistics (S, N), as integers of that shape.

    A value that is no number falls into the lowest bin.
    """
    values = np.clip(np.nan_to_num(values), 0.0, 1.0)
    with np.errstate(divide="ignore"):
        logits = np.log(values[:-1]) - np.log1p(-values[:-1])
    shares = np.concatenate([(np.clip(logits, -_LOGITS, _LOGITS) + _LOGITS) / (2 * _LOGITS), values[-1:]])
    return np.minimum((shares * BINS).astype(np.int64), BINS - 1)


def counts_of(bins: np.ndarray) -> np.ndarray:
    """Return how many of the last axis fall into each bin, int64 (..., BINS)."""
    rows = bins.reshape(-1, bins.shape[-1])
    offset = rows + BINS * np.arange(len(rows))[:, np.newaxis]
    return np.bincount(offset.ravel(), minlength=BINS * len(rows)).reshape(*bins.shape[:-1], BINS)


def p_values(counts: np.ndarray, bins: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return each value's rank among those counted and those before it on the last axis; small of small values.

    Args:
        counts: of the values before, int64 (..., BINS).
        bins: of the new values, int (..., N); the work grows with N².
        uniform: what breaks ties, in [0, 1), shape (..., N).

    Returns:
        In (0, 1), shape (..., N).
    """
    number = bins.shape[-1]
    earlier = np.tri(number, k=-1, dtype=bool)
    one, other = bins[..., :, np.newaxis], bins[..., np.newaxis, :]
    less = np.take_along_axis(np.cumsum(counts, axis=-1) - counts, bins, axis=-1) + ((other < one) & earlier).sum(-1)
    equal = np.take_along_axis(counts, bins, axis=-1) + ((other == one) & earlier).sum(-1)
    before = counts.sum(axis=-1, keepdims=True) + np.arange(number)
    ranks: np.ndarray = (less + uniform * (equal + 1)) / (before + 1)
    return np.clip(ranks, _TINY, 1 - _TINY)


def log_bets(p: np.ndarray) -> np.ndarray:
    """Return log f(p) of every bet, shape (..., bets, N) for p-values (..., N).

    A bet is e q^(e - 1), for three exponents e and four q that are uniform where p is: p against small values, 1 - p
    against large ones, 2 min(p, 1 - p) against both, and |1 - 2 p| against values that all are alike.
    """
    tails = np.stack([p, 1 - p, 2 * np.minimum(p, 1 - p), np.maximum(np.abs(1 - 2 * p), _TINY)], axis=-2)
    bets = np.log(_EXPONENTS)[:, np.newaxis] + (_EXPONENTS - 1)[:, np.newaxis] * np.log(tails)[..., np.newaxis, :]
    return bets.reshape(*p.shape[:-1], -1, p.shape[-1])


BETS = log_bets(np.array([0.5])).shape[0]


def log_starting_shares(images: np.ndarray) -> np.ndarray:
    """Return the logarithm of the stake that begins at the k-th image: 1 / log2(k + 1) - 1 / log2(k + 2).

    All shares sum to 1. Up to logarithms they fall as 1 / k, about as slowly as possible.
    """
    first, second = np.log2(images + 1), np.log2(images + 2)
    return np.log(np.log1p(1 / (images + 1)) / np.log(2)) - np.log(first) - np.log(second)


def bet(stakes: np.ndarray, p: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithms of the bets' stakes after new p-values, and of the wealth after each of them.

    After image n a bet's stake is S(n) = f(p(n)) (S(n - 1) + w(n)), for the share w(n) that begins with it. The wealth
    is the mean of the stakes, and the share that has not begun, 1 / log2(n + 2).

    Args:
        stakes: logarithms before, shape (..., BETS); minus infinity at the beginning.
        p: new p-values, shape (..., N).
        images: how many there were before.

    Returns:
        Shapes (..., BETS) and (..., N).
    """
    number = images + np.arange(1, p.shape[-1] + 1)
    own = log_bets(p)
    factors = np.cumsum(own, axis=-1)
    # S(n) = F(n) (S(0) + the sum of w(k) / F(k - 1)), for the product F of the factors f.
    begun = log_starting_shares(number) - (factors - own)
    terms = np.concatenate([stakes[..., np.newaxis], begun], axis=-1)
    path = factors + np.logaddexp.accumulate(terms, axis=-1)[..., 1:]
    mean = np.logaddexp.reduce(path, axis=-2) - np.log(BETS)
    return path[..., -1], np.logaddexp(mean, -np.log(np.log2(number + 2)))


@dataclass
class Stream:
    """The images that one model has answered, and what was won by betting against them; arrays are changed in place.

    Attributes:
        counts: calibration images and images seen, by statistic and bin, int64 (S, BINS).
        images: how many were seen.
        stakes: logarithms of the bets' stakes, shape (S, BETS).
        wealth: the logarithm of each statistic's wealth, at first 1 / S, shape (S,).
        highest: the greatest that it ever was, shape (S,).
        alarm: the image, counted from 1, after which there was an alarm; None before.
    """

    counts: np.ndarray
    images: int
    stakes: np.ndarray
    wealth: np.ndarray
    highest: np.ndarray
    alarm: int | None = None

    @classmethod
    def begin(cls, counts: np.ndarray) -> Stream:
        """Return a stream without images; `counts` (S, BINS) are of the calibration images, 0 where there are none."""
        number = len(counts)
        wealth = np.full(number, -np.log(number))
        return cls(counts.copy(), 0, np.full((number, BETS), -np.inf), wealth, wealth)

    @property
    def p_value(self) -> float:
        """The bound on the probability that some statistic's wealth is ever so great without a change."""
        return float(min(1.0, np.exp(-self.highest.max())))

    def add(self, bins: np.ndarray, random: np.random.Generator) -> None:
        """See the next images, in their order; `bins` has the shape (S, N), and `random` breaks ties."""
        for begin in range(0, bins.shape[1], _CHUNK):
            part = bins[:, begin : begin + _CHUNK]
            p = p_values(self.counts, part, random.random(part.shape))
            self.stakes, won = bet(self.stakes, p, self.images)
            path = won - np.log(len(part))
            reached = (path >= -np.log(FALSE_ALARMS)).any(axis=0)
            if self.alarm is None and reached.any():
                self.alarm = self.images + int(reached.argmax()) + 1
            self.counts += counts_of(part)
            self.images += part.shape[1]
            self.wealth = path[:, -1]
            self.highest = np.maximum(self.highest, path.max(axis=1))
