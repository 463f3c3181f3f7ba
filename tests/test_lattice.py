"""Knots of a subspace: where they lie, and polynomials that they must give back exactly."""

from __future__ import annotations

import numpy as np
import pytest

from subspace_serve.errors import GeometryError
from subspace_serve.space.geometry import Geometry, single_network
from subspace_serve.space.lattice import Lattice

LINE, CURVE = Geometry("line", 2), Geometry("curve", 3)


def simplex(endpoints: int) -> Geometry:
    return Geometry("simplex", endpoints)


def random_places(geometry: Geometry, count: int) -> list:
    return geometry.sample(np.random.default_rng(0), count).tolist()


def values(place: object) -> np.ndarray:
    return np.atleast_1d(np.asarray(place, dtype=float))


def test_a_line_and_a_curve_have_21_knots() -> None:
    for geometry in (LINE, CURVE):
        knots = Lattice.of(geometry).knots
        assert knots == [round(0.05 * i, 9) for i in range(21)]


@pytest.mark.parametrize(
    ("endpoints", "knots"), [(1, 1), (2, 21), (3, 66), (4, 35), (5, 15), (6, 21), (7, 28), (10, 55)]
)
def test_a_simplex_has_its_ends_and_at_most_66_knots(endpoints: int, knots: int) -> None:
    lattice = Lattice.of(simplex(endpoints))
    assert len(lattice.knots) == len(set(lattice.knots)) == knots
    assert set(lattice.geometry.ends) <= set(lattice.knots)
    assert all(sum(knot) == pytest.approx(1) and min(knot) >= 0 for knot in lattice.knots)


@pytest.mark.parametrize("geometry", [LINE, CURVE, single_network(), *map(simplex, (2, 3, 4, 6))], ids=str)
@pytest.mark.parametrize("degree", [1, 2])
def test_a_knot_is_itself(geometry: Geometry, degree: int) -> None:
    lattice = Lattice.of(geometry)
    found = np.array([lattice.weights(knot, degree) for knot in lattice.knots])
    assert np.array_equal(found, np.eye(len(lattice.knots)))


@pytest.mark.parametrize("geometry", [LINE, CURVE, *map(simplex, (2, 3, 4, 5, 10))], ids=str)
@pytest.mark.parametrize("degree", [1, 2])
def test_polynomials_of_the_degree_are_exact(geometry: Geometry, degree: int) -> None:
    lattice = Lattice.of(geometry)
    generator = np.random.default_rng(1)
    size = len(values(lattice.knots[0]))
    linear, quadratic = generator.normal(size=size), generator.normal(size=(size, size))

    def polynomial(place: object) -> float:
        x = values(place)
        return float(3 + linear @ x + (x @ quadratic @ x if degree == 2 else 0))

    known = np.array([polynomial(knot) for knot in lattice.knots])
    for place in random_places(geometry, 200):
        weights = lattice.weights(place, degree)
        assert weights.sum() == pytest.approx(1)
        assert weights @ known == pytest.approx(polynomial(place), abs=1e-7)


def test_linear_weights_are_those_of_the_nearest_knots() -> None:
    weights = Lattice.of(LINE).weights(0.52)
    assert dict(enumerate(weights)) == pytest.approx(dict.fromkeys(range(21), 0.0) | {10: 0.6, 11: 0.4})
    inside = Lattice.of(simplex(3))
    found = {inside.knots[row]: share for row, share in enumerate(inside.weights((0.32, 0.33, 0.35))) if share}
    assert len(found) == 3
    assert all(share > 0 for share in found.values())
    assert max(np.abs(np.subtract(knot, (0.32, 0.33, 0.35))).max() for knot in found) <= 0.1


def test_a_place_outside_is_refused() -> None:
    with pytest.raises(GeometryError, match=r"alpha 1\.1 lies outside"):
        Lattice.of(LINE).weights(1.1)
    with pytest.raises(GeometryError, match="3 numbers"):
        Lattice.of(simplex(3)).weights((0.5, 0.5))
