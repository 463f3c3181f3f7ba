"""An ensemble: networks whose outputs are averaged, given by their places in a subspace or by names of points."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from subspace_serve.space.place import place_text

Aggregate = Literal["probabilities", "logits"]
Member = TypeVar("Member", bound=Hashable)


@dataclass(frozen=True)
class Ensemble(Generic[Member]):
    """Several networks averaged in output space, or one alone.

    Attributes:
        members: places in a subspace, or names of points.
        weights: one per member, not negative, with any positive sum; None weighs them equally.
        aggregate: what several members average, `probabilities` or `logits`.
    """

    members: tuple[Member, ...]
    weights: tuple[float, ...] | None = None
    aggregate: str = "probabilities"

    @classmethod
    def point(cls, member: Member) -> Ensemble[Member]:
        """Return the ensemble of one network alone."""
        return cls((member,))

    @property
    def is_point(self) -> bool:
        """Whether there is only one member."""
        return len(self.members) == 1

    def to_json(self) -> dict[str, Any]:
        """Return `alpha` for one place; `members`, `weights` and `aggregate` for several."""
        if self.is_point:
            return {"alpha": self.members[0]}
        weights = self.weights or (1 / len(self.members),) * len(self.members)
        return {"members": list(self.members), "weights": list(weights), "aggregate": self.aggregate}

    def __str__(self) -> str:
        return " + ".join(member if isinstance(member, str) else place_text(member) for member in self.members)  # type: ignore[arg-type]
