"""Which points answer a request, with which weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from subspace_serve.bundle.manifest import Aggregate, Ensemble, Point
from subspace_serve.errors import SubspaceServeError
from subspace_serve.suggestions import listed


class SelectionError(SubspaceServeError):
    """Members, weights or an aggregation that do not fit together."""


class UnknownModelError(SelectionError):
    """A model or member that the bundle does not have."""


@dataclass(frozen=True)
class Selection:
    """The points that answer, and how their outputs are averaged.

    `model` is None when the members were chosen freely; `aggregate` is None for a single point. Weights sum to 1.
    `temperature` is that of the answer, 1 where none was fitted for exactly these members, weights and aggregate.
    """

    model: str | None
    members: tuple[str, ...]
    weights: tuple[float, ...] = (1.0,)
    aggregate: Aggregate | None = None
    temperature: float = 1.0

    def answered_by(self, members: Collection[str]) -> Selection:
        """Return what is left when only these members answered: their weights normalised, no fitted temperature.

        Raises `SelectionError` when their weights are all 0.
        """
        if len(members) == len(self.members):
            return self
        shares = {name: weight for name, weight in zip(self.members, self.weights, strict=True) if name in members}
        return replace(
            self, members=tuple(shares), weights=_normalised(list(shares.values()), len(shares)), temperature=1.0
        )


def select(
    points: Mapping[str, Point],
    ensembles: Mapping[str, Ensemble],
    default: str,
    *,
    model: str | None = None,
    members: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    aggregate: Aggregate | None = None,
    alpha: float | Sequence[float] | None = None,
) -> Selection:
    """Resolve a request's choice.

    - nothing: the default; `model`: that point or ensemble;
    - `alpha` alone: the point that was exported at that place;
    - `members` alone: any points, weighted equally unless `weights` says otherwise;
    - `model` and `members`: only these members of that ensemble, with the ensemble's own weights unless given;
    - `weights` (one a member, not negative, any positive sum) and `aggregate` replace those of an ensemble.

    A model's temperature was fitted for its own answer. A choice that changes the members, their weights or the
    aggregate has the temperature 1; one that repeats them, in whatever order, keeps it.

    Raises `UnknownModelError` for a name that is not there, `SelectionError` for what does not fit.
    """
    if alpha is not None:
        if not (model is None and members is None and weights is None and aggregate is None):
            raise SelectionError("alpha names one point; leave out model, members, weights and aggregate")
        model = _point_at(alpha, points)
    if members is not None:
        _check_members(members, points)
    if members is not None and model is None:
        base = Ensemble(members=tuple(members), weights=(1.0,) * len(members))
    else:
        name = model if model is not None else default
        if name in points:
            if not (members is None and weights is None and aggregate is None):
                raise SelectionError(f"{name} is a single point; members, weights and aggregate belong to ensembles")
            return Selection(name, (name,), temperature=points[name].temperature)
        if name not in ensembles:
            raise UnknownModelError(
                f"there is no model {name!r:.120}; this bundle has {listed([*points, *ensembles], 10)}"
            )
        base, model = ensembles[name], name
    chosen = tuple(members) if members is not None else base.members
    own_weights = dict(zip(base.members, base.weights, strict=True))
    if absent := [member for member in chosen if member not in own_weights]:
        raise UnknownModelError(f"{model} has no member {absent[0]}; its members are {', '.join(base.members)}")
    if weights is None:
        weights = [own_weights[member] for member in chosen]
    shares = _normalised(weights, len(chosen))
    aggregate = aggregate or base.aggregate
    temperature = base.temperature if _is_own_answer(base, chosen, shares, aggregate) else 1.0
    return Selection(model, chosen, shares, aggregate, temperature)


def _point_at(alpha: float | Sequence[float], points: Mapping[str, Point]) -> str:
    """Return the point that was exported at a place."""
    place = _coordinates(alpha)
    for name, point in points.items():
        own = _coordinates(point.alpha)
        if len(own) == len(place) and all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(own, place, strict=True)):
            return name
    exported = ", ".join(str(point.alpha) for point in points.values())
    raise UnknownModelError(f"no point was exported at alpha {alpha!r:.120}; there are points at {exported:.300}")


def _coordinates(alpha: float | Sequence[float] | None) -> tuple[float, ...]:
    if alpha is None:
        return ()
    try:
        return tuple(map(float, alpha if isinstance(alpha, Sequence) else (alpha,)))
    except OverflowError:
        raise SelectionError("alpha is beyond all numbers of 64 bits; give one from 0 to 1") from None


def _is_own_answer(base: Ensemble, members: Sequence[str], shares: Sequence[float], aggregate: Aggregate) -> bool:
    """Whether a choice is what the ensemble itself answers with."""
    own = dict(zip(base.members, _normalised(base.weights, len(base.members)), strict=True))
    return (
        aggregate == base.aggregate
        and own.keys() == set(members)
        and all(math.isclose(share, own[member], abs_tol=1e-9) for member, share in zip(members, shares, strict=True))
    )


def _check_members(members: Sequence[str], points: Mapping[str, Point]) -> None:
    if not members:
        raise SelectionError("members is empty; name at least one point")
    for member in members:
        if member not in points:
            raise UnknownModelError(f"there is no point {member!r:.120}; this bundle has {listed([*points], 10)}")
    if len(set(members)) != len(members):
        raise SelectionError("a member is named twice; name each once and give it a greater weight instead")


def _normalised(weights: Sequence[float], count: int) -> tuple[float, ...]:
    total = sum(weights)
    if len(weights) != count:
        raise SelectionError(f"got {len(weights)} weights for {count} members; give one a member")
    if not all(weight >= 0 for weight in weights) or not (math.isfinite(total) and total > 0):
        raise SelectionError("weights must be finite and not negative, and at least one positive")
    return tuple(weight / total for weight in weights)
