"""What is compared: places on a grid or lattice, ensembles of them, and what lies beside the best."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from subspace_serve.errors import GeometryError
from subspace_serve.measure.networks import Candidate
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha, place


def candidates_of(
    geometry: Geometry, kind: str = "points", points: int = 11, aggregate: str = "probabilities"
) -> list[Candidate]:
    """Return what is compared first; the midpoint is always the first of them.

    Args:
        geometry: of the subspace.
        kind: `points`; `ensembles`: on a line or curve P(alpha) with P(1 - alpha), and every set of two or more of
            the ends (a simplex's vertices) and the midpoint; `all`: both.
        points: how fine the grid is, as places along a line; a simplex gets a lattice of about as many.
        aggregate: ensembles average `probabilities` or `logits`.

    Raises:
        GeometryError: ensembles are asked for where there is only one network.
    """
    midpoint = Candidate.point(geometry.midpoint)
    if kind == "points":
        return _distinct([midpoint, *map(Candidate.point, grid(geometry, points))])
    if geometry.endpoints == 1:
        raise GeometryError("one network makes no ensemble; choose among points")
    pairs = []
    if not geometry.barycentric:
        halves = [alpha for alpha in grid(geometry, points) if alpha < 0.5]  # type: ignore[operator]
        pairs = [_pair(alpha, aggregate) for alpha in halves]  # type: ignore[arg-type]
    singles = list(map(Candidate.point, grid(geometry, points))) if kind == "all" else []
    ends = [*geometry.ends, geometry.midpoint]
    # All sets of up to ten vertices would be a thousand ensembles; sets of two, and of all, tell most of it.
    sizes = range(2, len(ends) + 1) if len(ends) <= 5 else (2, len(ends) - 1, len(ends))
    subsets = [
        Candidate(members, aggregate=aggregate) for size in sizes for members in itertools.combinations(ends, size)
    ]
    return _distinct([midpoint, *singles, *pairs, *subsets])


def _distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the first of those whose places are the same: a third is 1/3 in the midpoint, and rounded in the grid."""
    found: dict[Candidate, Candidate] = {}
    for candidate in candidates:
        found.setdefault(replace(candidate, members=tuple(map(place, candidate.members))), candidate)
    return list(found.values())


def grid(geometry: Geometry, points: int) -> list[Alpha]:
    """Return evenly spaced places of a line or curve, or a simplex's lattice of about as many."""
    if not geometry.barycentric:
        return [place(float(alpha)) for alpha in np.linspace(0, 1, points)]
    parts = _parts(geometry, points)
    return [place(tuple(count / parts for count in counts)) for counts in _compositions(parts, geometry.endpoints)]


def neighbours(geometry: Geometry, candidate: Candidate, points: int, halvings: int) -> Iterator[Candidate]:
    """Yield what lies beside a candidate, the grid's step halved `halvings` times away.

    Along a line or curve on both sides; in a simplex with that much weight moved from one endpoint to another. A pair
    P(alpha), P(1 - alpha) moves as its alpha does; other ensembles have no neighbours.
    """
    step = 0.5**halvings
    if not geometry.barycentric:
        yield from _beside(candidate, step / (points - 1))
    elif candidate.is_point:
        yield from _moved(candidate, step / _parts(geometry, points))


def _beside(candidate: Candidate, step: float) -> Iterator[Candidate]:
    alpha = float(candidate.members[0])  # type: ignore[arg-type]
    if candidate.is_point:
        yield from (Candidate.point(place(value)) for value in (alpha - step, alpha + step) if 0 <= value <= 1)
    elif candidate == _pair(alpha, candidate.aggregate):
        yield from (_pair(value, candidate.aggregate) for value in (alpha - step, alpha + step) if 0 <= value < 0.5)


def _moved(candidate: Candidate, step: float) -> Iterator[Candidate]:
    here = np.array(candidate.members[0])
    for giver, taker in itertools.permutations(range(len(here)), 2):
        amount = min(step, here[giver])
        if amount > 1e-9:
            moved = here.copy()
            moved[giver] -= amount
            moved[taker] += amount
            yield Candidate.point(place(tuple(moved.tolist())))


def distance_to_midpoint(geometry: Geometry, candidate: Candidate) -> tuple[int, float]:
    """Return how far a candidate is from the default: members first, then the mean distance of their places."""
    distances = [np.abs(np.subtract(alpha, geometry.midpoint)).sum() for alpha in candidate.members]
    return len(candidate.members), round(float(np.mean(distances)), 9)


def _pair(alpha: float, aggregate: str) -> Candidate:
    return Candidate((place(alpha), place(1 - alpha)), aggregate=aggregate)


def _parts(geometry: Geometry, points: int) -> int:
    """Return into how many steps a simplex's edge is divided, for a lattice of about `points` places."""
    return max(2, round(points ** (1 / max(geometry.endpoints - 1, 1))))


def _compositions(total: int, length: int) -> list[tuple[int, ...]]:
    """Return all ways to write `total` as `length` ordered non-negative whole numbers."""
    if length == 1:
        return [(total,)]
    return [(first, *rest) for first in range(total + 1) for rest in _compositions(total - first, length - 1)]
