"""Which points answer a request, with which weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from subspace_serve.bundle.manifest import TRAINING, Aggregate, Domain, Ensemble, Point
from subspace_serve.errors import GeometryError, SubspaceServeError
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha, place_text
from subspace_serve.suggestions import listed


class SelectionError(SubspaceServeError):
    """Members, weights or an aggregation that do not fit together."""


class UnknownModelError(SelectionError):
    """A model or member that the bundle does not have."""


@dataclass(frozen=True)
class Built:
    """A network that is built on request: a place of the subspace, and the name of its statistics set."""

    alpha: Alpha
    statistics: str = TRAINING

    def __str__(self) -> str:
        return f"alpha {place_text(self.alpha)} ({self.statistics})"


Member = str | Built
"""What answers: a point, by its name, or a network that is built on request."""


def label(member: Member) -> str:
    """Return a member's label in metrics: a point's name, or one word for all places."""
    return member if isinstance(member, str) else "alpha"


@dataclass(frozen=True)
class Selection:
    """The networks that answer, and how their outputs are averaged.

    `model` is None when the members were chosen freely; `aggregate` is None for a single network. Weights sum to 1.
    `temperature` is that of the answer, 1 where none was fitted for exactly these members, weights and aggregate.
    `alpha` is a single network's place, and `statistics` the set that all members share; None where there is none.
    `source` is the point or the ensemble whose own answer this is, so that what the bundle promises of its answers
    holds; None where the members, weights, aggregate or statistics are others.
    """

    model: str | None
    members: tuple[Member, ...]
    weights: tuple[float, ...] = (1.0,)
    aggregate: Aggregate | None = None
    temperature: float = 1.0
    alpha: Alpha | None = None
    statistics: str | None = None
    source: Point | Ensemble | None = field(default=None, compare=False, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The members that are points, by name."""
        return tuple(member for member in self.members if isinstance(member, str))

    @property
    def built(self) -> tuple[Built, ...]:
        """The members that are built on request."""
        return tuple(member for member in self.members if isinstance(member, Built))

    def answered_by(self, members: Collection[Member]) -> Selection:
        """Return the selection without the members that did not answer: weights normalised, nothing fitted or promised.

        Raises `SelectionError` when their weights are all 0.
        """
        if len(members) == len(self.members):
            return self
        shares = {name: weight for name, weight in zip(self.members, self.weights, strict=True) if name in members}
        return replace(
            self,
            members=tuple(shares),
            weights=_normalised(list(shares.values()), len(shares)),
            temperature=1.0,
            source=None,
        )


@dataclass(frozen=True)
class Models:
    """Everything that a request can name.

    Attributes:
        points, ensembles: by name.
        default: the name of the one that answers when none is named.
        geometry: of the subspace; None where a bundle holds points only.
        domains: by name.
        step: a place is rounded to multiples of it before its network is built; 0 leaves it as it is.
    """

    points: Mapping[str, Point]
    ensembles: Mapping[str, Ensemble]
    default: str
    geometry: Geometry | None = None
    domains: Mapping[str, Domain] = field(default_factory=dict)
    step: float = 0.0

    def select(
        self,
        *,
        model: str | None = None,
        members: Sequence[str | Alpha] | None = None,
        weights: Sequence[float] | None = None,
        aggregate: Aggregate | None = None,
        alpha: Alpha | None = None,
        domain: str | None = None,
    ) -> Selection:
        """Resolve a request's choice.

        - nothing: the default; `model`: that point or ensemble;
        - `alpha` alone: the network at that place, whether an exported point or built on request;
        - `members` alone: any points, by name, and places, weighted equally unless `weights` says otherwise;
        - `model` and `members`: only these members of that ensemble, with the ensemble's own weights unless given;
        - `weights` (one per member, not negative, any positive sum) and `aggregate` replace those of an ensemble;
        - `domain`: with the domain's statistics; alone, at the domain's own place.

        A model's temperature was fitted for its own answer. A choice that changes the members, their weights, the
        aggregate or the statistics has the temperature 1; one that repeats them, in whatever order, keeps it.

        Raises `UnknownModelError` for a name that is not there, `SelectionError` for what does not fit, such as a place
        outside the subspace.
        """
        statistics = self._statistics(domain)
        if alpha is not None:
            if not (model is None and members is None and weights is None and aggregate is None):
                raise SelectionError("alpha names one network; leave out model, members, weights and aggregate")
            return self._single(self._at(alpha, statistics), None)
        if domain is not None and model is None and members is None:
            if not (weights is None and aggregate is None):
                raise SelectionError("a domain alone is one network; weights and aggregate need members")
            if domain in self.points:
                return self._single(domain, domain)
            own = self.domains[domain]
            member = self._at(own.alpha, own.statistics, snap=False)
            return replace(self._single(member, None), temperature=own.temperature)
        if members is not None:
            chosen = self._members(members, statistics)
            if model is None:
                equal = (1.0,) * len(chosen)
                return self._averaged(None, chosen, equal if weights is None else weights, aggregate or "probabilities")
        name = model if model is not None else self.default
        if name in self.points:
            if not (members is None and weights is None and aggregate is None):
                raise SelectionError(f"{name} is a single point; members, weights and aggregate belong to ensembles")
            return self._single(self._in(name, statistics), name)
        if name not in self.ensembles:
            raise UnknownModelError(
                f"there is no model {name!r:.120}; this bundle has {listed([*self.points, *self.ensembles], 10)}"
            )
        return self._of_ensemble(name, members, weights, aggregate, statistics)

    def _of_ensemble(
        self,
        name: str,
        members: Sequence[str | Alpha] | None,
        weights: Sequence[float] | None,
        aggregate: Aggregate | None,
        statistics: str | None,
    ) -> Selection:
        base = self.ensembles[name]
        names = list(members) if members is not None else list(base.members)
        own_weights = dict(zip(base.members, base.weights, strict=True))
        if absent := [member for member in names if not isinstance(member, str) or member not in own_weights]:
            raise UnknownModelError(f"{name} has no member {absent[0]}; its members are {', '.join(base.members)}")
        if weights is None:
            weights = [own_weights[member] for member in names]  # type: ignore[index]
        selection = self._averaged(name, self._members(names, statistics), weights, aggregate or base.aggregate)
        if not selection.built and _is_own_answer(base, selection):
            return replace(selection, temperature=base.temperature, source=base)
        return selection

    def _averaged(
        self, model: str | None, members: tuple[Member, ...], weights: Sequence[float], aggregate: Aggregate
    ) -> Selection:
        sets = {self._set_of(member) for member in members}
        return Selection(
            model,
            members,
            _normalised(weights, len(members)),
            aggregate,
            statistics=next(iter(sets)) if len(sets) == 1 else None,
        )

    def _single(self, member: Member, model: str | None) -> Selection:
        if isinstance(member, Built):
            return Selection(model, (member,), alpha=member.alpha, statistics=member.statistics)
        point = self.points[member]
        return Selection(
            member,
            (member,),
            temperature=point.temperature,
            alpha=point.alpha,
            statistics=point.statistics,
            source=point,
        )

    def _set_of(self, member: Member) -> str | None:
        return member.statistics if isinstance(member, Built) else self.points[member].statistics

    def _statistics(self, domain: str | None) -> str | None:
        """Return a domain's statistics; None where no domain is named."""
        if domain is None:
            return None
        if domain not in self.domains:
            known = (
                f"its domains are {listed([*self.domains], 10)}" if self.domains else "it has none; make one with adapt"
            )
            raise UnknownModelError(f"there is no domain {domain!r:.120} in this bundle: {known}")
        return self.domains[domain].statistics

    def _members(self, members: Sequence[str | Alpha], statistics: str | None) -> tuple[Member, ...]:
        if not members:
            raise SelectionError("members is empty; name at least one point or place")
        found = tuple(
            self._in(member, statistics) if isinstance(member, str) else self._at(member, statistics)
            for member in members
        )
        named: dict[Member, str | Alpha] = {}
        for member, own in zip(members, found, strict=True):
            if own in named:
                raise SelectionError(
                    f"{self._twice(named[own], member)}; name each once and give it a greater weight instead"
                )
            named[own] = member
        return found

    def _twice(self, first: str | Alpha, second: str | Alpha) -> str:
        """Say how two members are one."""
        if first == second:
            return f"{first!r:.120} is named twice"
        rounded = self.step and not (isinstance(first, str) and isinstance(second, str))
        reason = f", where places are rounded to multiples of {self.step:g}" if rounded else ""
        return f"{first!r:.120} and {second!r:.120} are the same network here{reason}"

    def _in(self, name: str, statistics: str | None) -> Member:
        """Return a point or, where a domain is named, the network at its place with the domain's statistics."""
        if name not in self.points:
            raise UnknownModelError(f"there is no point {name!r:.120}; this bundle has {listed([*self.points], 10)}")
        alpha = self.points[name].alpha
        if statistics is None or self.points[name].statistics == statistics:
            return name
        if (reduction := self.points[name].reduction) is not None:
            raise SelectionError(f"{name} has no statistics of a domain; name its float point {reduction.of}")
        if alpha is None:
            raise SelectionError(f"{name} lies nowhere in the subspace, so it has no statistics of a domain")
        return self._at(alpha, statistics, snap=False)

    def _at(self, alpha: Alpha, statistics: str | None, *, snap: bool = True) -> Member:
        """Return the point at a place, or else the network to build there."""
        if (point := self._point_at(alpha, statistics)) is not None:
            return point
        if self.geometry is None:
            exported = ", ".join(dict.fromkeys(str(point.alpha) for point in self.points.values()))
            of_domain = f" with the statistics {statistics}" if statistics else ""
            raise UnknownModelError(
                f"no point was exported at alpha {alpha!r:.120}{of_domain}; there are points at {exported:.300}; "
                "a bundle that was exported without --points-only answers at any place, where the server lets it"
            )
        try:
            place = self.geometry.check(alpha)
        except GeometryError as error:  # its remedy, after the semicolon, is a command-line flag
            raise SelectionError(str(error).partition("; ")[0]) from None
        if snap and self.step:
            place = self.geometry.snapped(place, self.step)
            if (point := self._point_at(place, statistics)) is not None:
                return point
        return Built(place, statistics or TRAINING)

    def _point_at(self, alpha: Alpha, statistics: str | None) -> str | None:
        """Return the point at a place that has these statistics; without a domain, the training statistics."""
        wanted = _coordinates(alpha)
        # A bundle of points alone does not always record which images their statistics are from.
        allowed = (statistics,) if statistics else (TRAINING,) if self.geometry else (TRAINING, None)
        for name, own in self._located:
            here = len(own) == len(wanted) and all(
                math.isclose(a, b, abs_tol=1e-9) for a, b in zip(own, wanted, strict=True)
            )
            if here and self.points[name].statistics in allowed:
                return name
        return None

    @cached_property
    def _located(self) -> list[tuple[str, tuple[float, ...]]]:
        """Each float point's name and coordinates, cached: every request for a place goes through all of them."""
        exact = {name: point for name, point in self.points.items() if point.precision == "float32"}
        return [(name, _coordinates(point.alpha)) for name, point in exact.items()]


def _coordinates(alpha: Alpha | None) -> tuple[float, ...]:
    if alpha is None:
        return ()
    if isinstance(alpha, float):
        return (alpha,)
    try:
        return tuple(map(float, alpha if isinstance(alpha, Sequence) else (alpha,)))
    except OverflowError:
        raise SelectionError("alpha is beyond all numbers of 64 bits; give one from 0 to 1") from None


def _is_own_answer(base: Ensemble, selection: Selection) -> bool:
    """Whether a choice is what the ensemble itself answers with."""
    own = dict(zip(base.members, _normalised(base.weights, len(base.members)), strict=True))
    shares = dict(zip(selection.members, selection.weights, strict=True))
    return (
        selection.aggregate == base.aggregate
        and own.keys() == shares.keys()
        and all(math.isclose(share, own[member], abs_tol=1e-9) for member, share in shares.items())  # type: ignore[index]
    )


def _normalised(weights: Sequence[float], count: int) -> tuple[float, ...]:
    total = sum(weights)
    if len(weights) != count:
        raise SelectionError(f"got {len(weights)} weights for {count} members; give one a member")
    if not all(weight >= 0 for weight in weights) or not (math.isfinite(total) and total > 0):
        raise SelectionError("weights must be finite and not negative, and at least one positive")
    return tuple(weight / total for weight in weights)
