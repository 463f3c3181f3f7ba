"""The mathematics of answers: how members' logits become one answer, and how sure it is.

Measuring and serving share this code, and it computes in float64. Classes are on the last axis; a probability of 0
counts as the smallest normal number where its logarithm is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

AGGREGATES = ("probabilities", "logits")

_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True, eq=False)
class Answer:
    """What one network, or several averaged, say of N images.

    The temperature T acts on the answer alone: its probabilities p become p^(1/T), normalised, which for a single
    network is softmax(logits / T). What the members answered, and how far they differ, are as the networks gave them.

    Attributes:
        logits: of the members, float64 (members, N, classes).
        weights: one per member, summing to 1. Shape (members,).
        aggregate: what several members average: `probabilities` (their softmax outputs), or `logits`, whose mean then
            goes through the softmax, so that the predicted class is that of the summed logits, as in the paper's code.
        temperature: of the answer; 1 leaves it as it is.
    """

    logits: np.ndarray
    weights: np.ndarray
    aggregate: str = "probabilities"
    temperature: float = 1.0

    @cached_property
    def members(self) -> np.ndarray:
        """The members' probabilities. Shape (members, N, classes)."""
        return softmax(self.logits)

    @cached_property
    def mixture(self) -> np.ndarray:
        """The weighted mean of the members' probabilities. Shape (N, classes)."""
        return _mean(self.members, self.weights)

    @property
    def probabilities(self) -> np.ndarray:
        """The answer. Shape (N, classes)."""
        # One network's logits still differ where its probabilities have rounded to 0.
        if self.aggregate == "logits" or (len(self.logits) == 1 and self.temperature != 1):
            return softmax(_mean(self.logits, self.weights) / self.temperature)
        return apply_temperature(self.mixture, self.temperature)

    @property
    def mutual_information(self) -> np.ndarray:
        """The mixture's entropy less the members' mean entropy, in nats, never negative. Shape (N,)."""
        information = entropy_of(self.mixture) - _mean(entropy_of(self.members), self.weights)
        return np.maximum(information, 0)  # rounding can put members that agree a little below 0

    @property
    def disagreement(self) -> np.ndarray:
        """The members' mean total-variation distance from the mixture, in [0, 1]. Shape (N,)."""
        return _mean(total_variation(self.members, self.mixture), self.weights)


def ensemble_answer(
    logits: np.ndarray | Iterable[np.ndarray],
    weights: Sequence[float] | None = None,
    aggregate: str = "probabilities",
    temperature: float = 1.0,
) -> Answer:
    """Check that the parts of an `Answer` fit each other, and return it.

    Args:
        logits: one (N, classes) array per member, of any numeric type, or all as (members, N, classes).
        weights: non-negative, one per member, scaled to sum to 1; equal by default.
        aggregate: as of an `Answer`.
        temperature: as of an `Answer`.

    Raises:
        ValueError: no member, members of several shapes, weights that do not fit, or an unknown aggregate.
    """
    members = [np.asarray(member, dtype=np.float64) for member in logits]
    shapes = sorted({member.shape for member in members})
    if len(shapes) > 1:
        raise ValueError(f"The members' logits must have one shape; found {shapes}.")
    shares = _shares(weights, len(members))
    if aggregate not in AGGREGATES:
        raise ValueError(f"aggregate must be one of {AGGREGATES}; found {aggregate!r}.")
    return Answer(np.stack(members), shares, aggregate, temperature)


def ensemble_probabilities(
    logits: np.ndarray | Iterable[np.ndarray],
    weights: Sequence[float] | None = None,
    aggregate: str = "probabilities",
    temperature: float = 1.0,
) -> np.ndarray:
    """Return the probabilities (N, classes) of an `ensemble_answer`; raises `ValueError` as that does."""
    return ensemble_answer(logits, weights, aggregate, temperature).probabilities


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return p^(1/T), normalised. Shape as given."""
    return probabilities if temperature == 1 else softmax(logarithm(probabilities) / temperature)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis."""
    logits = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    exponentials /= exponentials.sum(axis=-1, keepdims=True)
    return exponentials


def logarithm(probabilities: np.ndarray) -> np.ndarray:
    """Return log p, finite where p is 0."""
    return np.log(np.maximum(probabilities, _TINY, dtype=np.float64))


def entropy_of(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy over the last axis in nats; 0 log 0 is 0."""
    positive = np.where(probabilities > 0, probabilities, 1)
    return -(probabilities * np.log(positive)).sum(axis=-1)


def total_variation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return half the L1 distance over the last axis, in [0, 1]."""
    return np.abs(first - second).sum(axis=-1) / 2


def _mean(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean over the first axis."""
    return members[0] if len(members) == 1 else np.tensordot(weights, members, axes=1)


def _shares(weights: Sequence[float] | None, members: int) -> np.ndarray:
    """Return the weights scaled to sum to 1."""
    if members == 0:
        raise ValueError("An ensemble needs at least one member; found none.")
    given = [1.0] * members if weights is None else [float(weight) for weight in weights]
    total = sum(given)
    if len(given) != members or min(given) < 0 or not 0 < total < float("inf"):
        raise ValueError(
            f"An ensemble of {members} needs {members} weights, none negative and not all 0; found {given}."
        )
    return np.array(given) / total
