"""The mathematics of abstaining: when to answer so that few answers are wrong (Geifman and El-Yaniv 2017).

An image is answered when its score is above a threshold. On n labelled images that had no part in making the network,
candidate thresholds leave certain shares of them, up to all. Of the c images above a candidate,
e are answered wrongly; given the threshold, e is binomial with the error rate r among all images above it, since the
threshold is one of the scores below them. So r is at most `max_risk` unless P(X <= e) <= delta' for X binomial
(c, `max_risk`): the bound of Clopper and Pearson. With delta' = delta / m for m candidates, the bounds of all hold
together with probability 1 - delta, and the one that answers most may be taken (Angelopoulos et al. 2021, "Learn then
Test", with Bonferroni's correction). Only candidates that could pass without a mistake are counted, which the labels
have no part in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DELTA = 0.05
"""With which probability, over the labelled images, the promise may fail."""
SHARES = (0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Of the labelled images, that candidates answer. Fewer candidates prove more; networks in use answer most images."""
FINE_SHARES = tuple(step / 40 for step in range(1, 41))
"""The same where there are `MANY` images, which prove nearly as much with more candidates."""
MANY = 1000


class Level(NamedTuple):
    """A candidate threshold: how many labelled images score above it, and how many of these are answered wrongly."""

    threshold: float
    answered: int
    wrong: int


def levels_of(scores: np.ndarray, right: np.ndarray) -> list[Level]:
    """Return the candidates, from the one that answers least to the one that answers all.

    Args:
        scores: at least 0, higher where the answer is surer. Shape (N,).
        right: whether each answer is right. Shape (N,).
    """
    count = len(scores)
    descending = -np.sort(-scores)
    # All are answered above -1. Where scores are equal, fewer may lie above a threshold than were wanted.
    thresholds = sorted({float(descending[above]) if above < count else -1.0 for above in _wanted(count)}, reverse=True)
    return [
        Level(threshold, int((scores > threshold).sum()), int((~right[scores > threshold]).sum()))
        for threshold in thresholds
    ]


def choose(levels: Sequence[Level], max_risk: float, delta: float = DELTA) -> Level | None:
    """Return the level that answers most among those whose error rate is proven; None where none is.

    Args:
        levels: the candidates, of which the last answers all.
        max_risk: the error rate among answered images that is promised, in (0, 1).
        delta: with which probability the promise may fail.
    """
    tested = candidates_of(levels[-1].answered, max_risk, delta)
    if not tested:
        return None
    share = delta / len(tested)
    # Where scores are equal a candidate may answer fewer than it was to; it is left out if it may be one of the others.
    ordered = sorted((level for level in levels if level.answered >= tested[0]), key=lambda level: -level.answered)
    return next((level for level in ordered if binomial_tail(level.wrong, level.answered, max_risk) <= share), None)


def candidates_of(count: int, max_risk: float, delta: float = DELTA) -> list[int]:
    """Return how many of `count` images each candidate answers, of those that could pass when so many are tested."""
    tested = _wanted(count)
    while tested and tested[0] < images_for(max_risk, delta / len(tested)):
        tested = tested[1:]
    return tested


def images_for(max_risk: float, delta: float = DELTA) -> float:
    """Return how many images, all answered rightly, prove an error rate: the smallest c, (1 - max_risk)^c <= delta."""
    return float(np.ceil(math.log(delta) / math.log1p(-max_risk)))  # infinite for the smallest rates of all


def _wanted(count: int) -> list[int]:
    # To a thousandth first, so that a tenth of 30 is 3.
    return sorted({math.ceil(round(share * count, 3)) for share in (SHARES if count < MANY else FINE_SHARES)})


def binomial_tail(wrong: int, count: int, rate: float) -> float:
    """Return P(X <= wrong) of a binomial X with `count` trials at `rate`, in (0, 1)."""
    if wrong >= count:
        return 1.0
    successes = np.arange(wrong + 1)
    steps = np.log((count - successes[:-1]) / (successes[:-1] + 1)) + math.log(rate) - math.log1p(-rate)
    logarithms = count * math.log1p(-rate) + np.concatenate([[0.0], np.cumsum(steps)])
    most = float(logarithms.max())
    return min(1.0, math.exp(most + math.log(float(np.exp(logarithms - most).sum()))))
