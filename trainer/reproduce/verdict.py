"""Whether a claim holds here: what the seeds say, and how certain that is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student_t

HOLDS, WITHIN_NOISE, FAILS = "holds", "holds within noise", "does not hold here"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Verdict:
    """What the seeds say about a claim.

    Attributes:
        word: `holds`: the mean, and with 95 % confidence the expectation (one-sided t-interval over seeds), lie on
            the claim's side; `holds within noise`: only the mean does, or there is only one seed; `does not hold here`:
            not even the mean does. A margin moves where the claim's side begins.
        mean: of the differences, positive on the claim's side.
        deviation: their sample standard deviation; None with one seed.
        lower: the lower end of the interval; the mean itself with one seed.
    """

    word: str
    mean: float
    deviation: float | None
    lower: float


def verdict(differences: Sequence[float], margin: float = 0.0, *, strict: bool = True) -> Verdict:
    """Judge a claim by one difference per seed, positive where the claim holds.

    Args:
        differences: one per seed, paired (both sides of a difference share the seed, and so the order of the data).
        margin: how far below zero still counts as holding, for claims that something is matched.
        strict: whether a mean of exactly zero (less the margin) fails; False where the claim is "at least as".
    """
    mean = statistics.mean(differences)
    fails = mean + margin < 0 or (mean + margin == 0 and strict)
    if len(differences) < 2:
        return Verdict(FAILS if fails else WITHIN_NOISE, mean, None, mean)
    deviation = statistics.stdev(differences)
    count = len(differences)
    lower = mean - float(student_t.ppf(CONFIDENCE, count - 1)) * deviation / count**0.5
    if fails:
        return Verdict(FAILS, mean, deviation, lower)
    return Verdict(HOLDS if lower + margin >= 0 else WITHIN_NOISE, mean, deviation, lower)
