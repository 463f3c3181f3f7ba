"""Telling a gain from chance: paired bootstrap, a test over all candidates, and the one-standard-error rule."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace_serve.measure.metrics import METRICS, Scores
from subspace_serve.select.mixture import MixedScores

REPLICATES = 1000
SIGNIFICANCE = 0.05
_AT_ONCE = 50


Compared = Scores | MixedScores
"""What is known of how good a candidate is, on one domain or on several by weight."""


@dataclass(frozen=True)
class Gains:
    """Candidates' gains over a reference, positive for better, with their bootstrap distribution.

    Attributes:
        observed: shape (K,).
        replicates: each gain under resampled images. Shape (R, K).
    """

    observed: np.ndarray
    replicates: np.ndarray

    @property
    def standard_errors(self) -> np.ndarray:
        return self.replicates.std(axis=0, ddof=1)

    def p_value(self, candidate: int) -> float:
        """Return the chance that some candidate gains as much as this one if none were better than the reference.

        White's reality check (2000): the gain is compared with the largest of the replicates' deviations, so that
        trying many candidates does not make one of them significant.
        """
        by_chance = (self.replicates - self.observed).max(axis=1)
        return float((1 + np.count_nonzero(by_chance >= self.observed[candidate])) / (1 + len(self.replicates)))


def paired_gains(candidates: Sequence[Compared], reference: Compared, metric: str, *, seed: int) -> Gains:
    """Bootstrap the gains of candidates over a reference, on the same resampled images for all.

    Args:
        candidates: scores on all N images of the reference, or (of those dropped in a race) on the first n of them,
            whose deviations are then scaled by sqrt(n / N) to those of N images.
        reference: scores of what they are compared with.
        metric: of `subspace_serve.measure.metrics.METRICS`.
        seed: of the resampling.
    """
    sign, total = METRICS[metric], len(reference)

    def gains(weights: np.ndarray) -> np.ndarray:
        columns = []
        for scores in candidates:
            seen = np.where(np.arange(total) < len(scores), weights, 0)  # an image of weight 0 counts as unseen
            here = scores.compared(metric, weights[:, : len(scores)])
            columns.append(sign * (here - reference.compared(metric, seen)))
        return np.stack(columns, axis=1)

    observed = gains(np.ones((1, total)))[0]
    share = np.sqrt([len(scores) / total for scores in candidates])
    return Gains(observed, observed + share * (_bootstrap(gains, total, seed) - observed))


def standard_error(scores: Compared, metric: str, *, seed: int) -> float:
    """Return the bootstrap standard error of one candidate's own metric."""
    return float(_bootstrap(lambda weights: scores.weighted(metric, weights), len(scores), seed).std(ddof=1))


def gain_with_interval(candidate: Compared, reference: Compared, metric: str, *, seed: int) -> dict[str, Any]:
    """Return `value`, the 95 % percentile `interval`, and the two-sided `p_value` of one gain.

    The gain by `ece` is one of the debiased squared calibration error (`Scores.compared`), not of the plain expected
    calibration error, which is biased upwards on few images and whose resamples are more so.
    """
    gains = paired_gains([candidate], reference, metric, seed=seed)
    value, replicates = float(gains.observed[0]), gains.replicates[:, 0]
    low, high = np.percentile(replicates, [2.5, 97.5])
    extreme = np.count_nonzero(np.abs(replicates - value) >= abs(value))
    return {
        "value": value,
        "interval": [float(low), float(high)],
        "p_value": float((1 + extreme) / (1 + len(replicates))),
    }


@dataclass(frozen=True)
class Decision:
    """Which candidate is taken, and why.

    Attributes:
        chosen: its index.
        best: the index of the one with the best metric.
        p_value: of the test over all candidates.
        reason: in words.
    """

    chosen: int
    best: int
    p_value: float
    reason: str


def decide(
    scores: Sequence[Compared],
    metric: str,
    distances: Sequence[tuple[int, float]],
    *,
    seed: int,
    greedy: bool = False,
    within: Collection[int] | None = None,
) -> Decision:
    """Choose among candidates, the first of which is the midpoint.

    The midpoint is kept unless the best candidate beats it beyond chance (`Gains.p_value`). Then, of all that lie
    within one standard error of the best, the one nearest to the midpoint is taken (the one-standard-error rule of
    Breiman et al. 1984): a difference that the images cannot show is no reason to move.

    Args:
        scores: of each candidate; the midpoint's on all images.
        metric: of `subspace_serve.measure.metrics.METRICS`.
        distances: of each candidate to the midpoint.
        seed: of the bootstrap.
        greedy: take the best, whatever chance says.
        within: the candidates that may be chosen, one at least; None for all. Where the midpoint may not, the best of
            those that may is taken.
    """
    complete = _eligible(scores, within)
    best = _best(scores, metric, distances, complete)
    p_value = _p_value(scores, metric, best, seed=seed)
    if best == 0:
        return Decision(0, 0, p_value, "the midpoint is the best")
    if 0 not in complete:
        return Decision(best, best, p_value, "the best within the bounds, which the midpoint does not keep")
    if greedy:
        return Decision(best, best, p_value, "the best, taken whatever chance says (greedy)")
    if p_value > SIGNIFICANCE:
        return Decision(0, best, p_value, f"nothing beats the midpoint beyond chance (p = {p_value:.2g})")
    others = paired_gains([scores[index] for index in complete], scores[best], metric, seed=seed)
    tied = [
        index
        for index, gain, error in zip(complete, others.observed, others.standard_errors, strict=True)
        if gain >= -error
    ]
    chosen = min(tied, key=lambda index: distances[index])
    nearest = "the best" if chosen == best else "nearest to the midpoint within one standard error of the best"
    return Decision(chosen, best, p_value, f"{nearest}; the best beats the midpoint (p = {p_value:.2g})")


def taken(
    chosen: int,
    reason: str,
    scores: Sequence[Compared],
    metric: str,
    distances: Sequence[tuple[int, float]],
    *,
    seed: int,
) -> Decision:
    """Return the decision for a candidate that was found in another way; the arguments are those of `decide`."""
    best = _best(scores, metric, distances, _eligible(scores))
    return Decision(chosen, best, _p_value(scores, metric, chosen, seed=seed), reason)


def _eligible(scores: Sequence[Compared], within: Collection[int] | None = None) -> list[int]:
    """Return the candidates that have seen every image and may be chosen."""
    total = len(scores[0])
    allowed = range(len(scores)) if within is None else within
    return [index for index, candidate in enumerate(scores) if len(candidate) == total and index in allowed]


def _best(scores: Sequence[Compared], metric: str, distances: Sequence[tuple[int, float]], among: Sequence[int]) -> int:
    """Return the best candidate, of equals the one nearest to the midpoint."""
    values = {index: scores[index].value(metric) for index in among}
    top = max(values.values())
    return min((index for index in among if values[index] == top), key=lambda index: distances[index])


def _p_value(scores: Sequence[Compared], metric: str, candidate: int, *, seed: int) -> float:
    """Return the chance that a candidate's gain over the midpoint, the first, is luck among so many."""
    if candidate == 0:
        return 1.0
    return paired_gains(scores[1:], scores[0], metric, seed=seed).p_value(candidate - 1)


def _bootstrap(statistic: Callable[[np.ndarray], np.ndarray], count: int, seed: int) -> np.ndarray:
    """Return a statistic under `REPLICATES` Poisson-weighted resamples of `count` images, along the first axis."""
    generator = np.random.default_rng(seed)

    def resampled() -> np.ndarray:
        weights = generator.poisson(1.0, (_AT_ONCE, count)).astype(np.float64)
        # With a handful of images all may draw 0; such a resample counts each once.
        weights[weights.sum(axis=1) == 0] = 1
        return weights

    return np.concatenate([statistic(resampled()) for _ in range(REPLICATES // _AT_ONCE)])
