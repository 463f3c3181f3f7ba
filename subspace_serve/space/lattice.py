"""Knots in a geometry's domain, and interpolation between them.

Lines, curves and simplexes are treated alike: a place is barycentric coordinates, which for a number alpha are
(1 - alpha, alpha). Knots are the places whose coordinates are multiples of 1 / parts. The cells between them are the
simplexes of Kuhn's (Freudenthal's) triangulation, on which numbers are interpolated by Lagrange polynomials of degree
one (through a cell's corners) or two (through the corners and edge midpoints of a cell twice as wide).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha, place

Degree = Literal[1, 2]

MOST_KNOTS = 66
_PARTS_OF_A_NUMBER = 20


@dataclass(frozen=True)
class Lattice:
    """Knots of a geometry: with `of`, 21 along a line or curve and at most 66 in a simplex.

    Attributes:
        geometry: whose domain it divides.
        parts: how many steps an edge is divided into: an even number, so that every second knot belongs to a coarser
            lattice; or 1 for knots at the ends alone, which degree two cannot use.
    """

    geometry: Geometry
    parts: int

    @classmethod
    def of(cls, geometry: Geometry) -> Lattice:
        """Return the lattice of a geometry: 20 parts for two ends, else as fine as `MOST_KNOTS` allows."""
        if not geometry.barycentric or geometry.endpoints == 2:
            return cls(geometry, _PARTS_OF_A_NUMBER)
        parts = 2
        while _size(geometry.endpoints, parts + 2) <= MOST_KNOTS and geometry.endpoints > 1:
            parts += 2
        return cls(geometry, parts)

    @cached_property
    def knots(self) -> list[Alpha]:
        """The knots, as places of the geometry."""
        return [self._place(corner) for corner in self._rows]

    @cached_property
    def middle(self) -> int:
        """The row of the knot that is nearest to the midpoint."""
        centre = np.asarray(self.geometry.midpoint)
        return int(np.argmin([np.abs(np.subtract(knot, centre)).sum() for knot in self.knots]))

    def weights(self, alpha: Alpha, degree: Degree = 1) -> np.ndarray:
        """Return each knot's weight at a place, float64 (knots,); they sum to 1, and at a knot are 1 there and 0 else.

        Raises:
            GeometryError: the place lies outside the domain.
        """
        coordinates = self._coordinates(self.geometry.check(alpha))
        corners, lower, upper = self._hats[degree]
        # Rounded so that a knot does not just miss its own place.
        sums = np.round(self.parts // degree * np.cumsum(coordinates[:0:-1])[::-1], 9)
        beyond = sums - corners
        hats: np.ndarray = np.maximum(0, 1 - beyond.max(axis=1, initial=0) - (-beyond).max(axis=1, initial=0))
        if degree == 2:
            hats = np.where(lower == upper, hats[lower] * (2 * hats[lower] - 1), 4 * hats[lower] * hats[upper])
        return hats

    def hats(self, degree: Degree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what `weights` computes with, also for graphs that compute it themselves.

        With x_i the sum of all coordinates after the i-th, times the corners' number of parts, corner v has the hat
        h_v = max(0, 1 - max(0, max_i(x_i - v_i)) - max(0, max_i(v_i - x_i))), which is linear in each cell of Kuhn's
        triangulation. Of degree one a knot's weight is its corner's hat. Of degree two corners are every second knot;
        such a knot's weight is h (2 h - 1), and that of a knot between corners u and v is 4 h_u h_v.

        Returns:
            The corners' cumulative sums, int64 (corners, sides - 1), and for each knot the rows of the two corners
            that it lies between, (knots,); they are the same for a knot that is a corner.
        """
        rows = {_sums(counts): row for row, counts in enumerate(_corners(self.geometry, self.parts // degree))}
        pairs = []
        for counts in self._rows:
            sums = np.asarray(_sums(counts))
            pairs.append([rows[tuple((bound // degree).tolist())] for bound in (sums, sums + degree - 1)])
        lower, upper = np.array(pairs).T
        return np.array(list(rows), np.int64).reshape(len(rows), -1), lower, upper

    @cached_property
    def _hats(self) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return {1: self.hats(1)} | ({2: self.hats(2)} if self.parts > 1 else {})

    @cached_property
    def _rows(self) -> dict[tuple[int, ...], int]:
        """The row of each knot by its coordinates, counted in steps."""
        return {counts: row for row, counts in enumerate(_corners(self.geometry, self.parts))}

    def _place(self, counts: tuple[int, ...]) -> Alpha:
        if self.geometry.barycentric:
            return place(tuple(count / self.parts for count in counts))
        return place(counts[1] / self.parts)

    def _coordinates(self, alpha: Alpha) -> np.ndarray:
        values = np.asarray(alpha, dtype=np.float64)
        return values / values.sum() if values.ndim else np.array([1 - values, values])


def _corners(geometry: Geometry, parts: int) -> list[tuple[int, ...]]:
    """Return the coordinates of all knots, counted in steps of 1 / parts."""
    sides = 1 if geometry.endpoints == 1 else geometry.endpoints if geometry.barycentric else 2
    found = (counts for counts in itertools.product(range(parts + 1), repeat=sides - 1))
    whole = ((*counts, parts - sum(counts)) for counts in found if sum(counts) <= parts)
    # A number's coordinates are (1 - alpha, alpha): sorting by the last makes alpha ascend.
    return sorted(whole, key=lambda counts: counts[::-1])


def _sums(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sums of all coordinates after the first, after the second, and so on."""
    return tuple(np.cumsum(counts[:0:-1])[::-1].tolist())


def _size(sides: int, parts: int) -> int:
    """Return how many knots there are: the ways to write `parts` as an ordered sum of `sides` whole numbers."""
    size = 1
    for i in range(1, sides):
        size = size * (parts + i) // i
    return size
