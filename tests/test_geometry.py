from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from subspace_serve.errors import GeometryError
from subspace_serve.space.geometry import Geometry, single_network

LINE, CURVE, TRIANGLE = Geometry("line", 2), Geometry("curve", 3), Geometry("simplex", 3)


@pytest.mark.parametrize(
    ("geometry", "alpha", "expected"),
    [
        (LINE, 0, [1, 0]),
        (LINE, 1, [0, 1]),
        (LINE, 0.25, [0.75, 0.25]),
        (CURVE, 0, [1, 0, 0]),
        (CURVE, 1, [0, 1, 0]),
        (CURVE, 0.5, [0.25, 0.25, 0.5]),
        (CURVE, 0.25, [0.5625, 0.0625, 0.375]),
        (TRIANGLE, (0, 1, 0), [0, 1, 0]),
        (TRIANGLE, (0.2, 0.3, 0.5), [0.2, 0.3, 0.5]),
        (single_network(), (1.0,), [1]),
    ],
)
def test_coefficients_by_hand(geometry: Geometry, alpha: object, expected: list[float]) -> None:
    np.testing.assert_allclose(geometry.coefficients(alpha), expected, atol=0)


def test_midpoints_and_ends() -> None:
    assert (LINE.midpoint, LINE.ends) == (0.5, [0.0, 1.0])
    assert (CURVE.midpoint, CURVE.ends) == (0.5, [0.0, 1.0])
    assert TRIANGLE.midpoint == (1 / 3, 1 / 3, 1 / 3)
    assert TRIANGLE.ends == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert LINE.opposite(0.3) == pytest.approx(0.7)
    assert TRIANGLE.opposite((1, 0, 0)) is None


@pytest.mark.parametrize(
    ("geometry", "alpha", "message"),
    [
        (LINE, 1.2, r"outside \[0, 1\].*--extrapolate"),
        (LINE, math.nan, "outside"),
        (LINE, math.inf, "outside"),
        (LINE, (0.5, 0.5), "one number"),
        (CURVE, -0.1, "outside"),
        (TRIANGLE, 0.5, "3 numbers that sum to 1"),
        (TRIANGLE, (0.5, 0.5), "3 numbers that sum to 1"),
        (TRIANGLE, (0.5, 0.6, -0.1), "no negative"),
        (TRIANGLE, (0.5, 0.5, math.nan), "no negative"),
        (TRIANGLE, (0.5, 0.5, 0.5), "sums to 1.5"),
        (LINE, "half", "not 'half'"),
        (LINE, None, "alpha nan"),
        (TRIANGLE, [[1, 0, 0]], "one number or a sequence"),
    ],
)
def test_alpha_outside_the_domain_is_refused(geometry: Geometry, alpha: object, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        geometry.coefficients(alpha)


@pytest.mark.parametrize("alpha", [np.float32(0.25), np.array(0.25), torch.tensor(0.25)])
def test_numbers_of_numpy_and_torch_are_numbers(alpha: object) -> None:
    assert LINE.check(alpha) == 0.25
    assert TRIANGLE.check(torch.tensor([0.25, 0.25, 0.5])) == (0.25, 0.25, 0.5)


def test_a_line_is_followed_beyond_its_ends_only_when_asked() -> None:
    np.testing.assert_allclose(LINE.coefficients(-0.05, extrapolate=True), [1.05, -0.05])
    for geometry, alpha in [(LINE, 2.5), (LINE, math.nan), (CURVE, 1.05), (TRIANGLE, (1.1, -0.1, 0))]:
        with pytest.raises(GeometryError):
            geometry.coefficients(alpha, extrapolate=True)


@pytest.mark.parametrize(
    ("name", "endpoints"), [("line", 3), ("curve", 2), ("simplex", 0), ("simplex", 11), ("square", 4)]
)
def test_impossible_geometries_are_refused(name: str, endpoints: int) -> None:
    with pytest.raises(GeometryError):
        Geometry(name, endpoints)


def test_sampling_is_uniform() -> None:
    generator = np.random.default_rng(0)
    line = LINE.sample(generator, 20_000)
    assert line.min() >= 0
    assert line.max() < 1
    assert line.mean() == pytest.approx(1 / 2, abs=0.01)
    assert line.var() == pytest.approx(1 / 12, abs=0.005)
    # Uniform on the simplex is Dirichlet(1, ..., 1): mean 1/m, variance (m - 1) / (m^2 (m + 1)).
    simplex = Geometry("simplex", 4).sample(generator, 20_000)
    np.testing.assert_allclose(simplex.sum(1), 1)
    np.testing.assert_allclose(simplex.mean(0), 1 / 4, atol=0.01)
    np.testing.assert_allclose(simplex.var(0), 3 / 80, atol=0.003)


@pytest.mark.parametrize("geometry", [LINE, CURVE, TRIANGLE])
def test_coefficients_of_samples_sum_to_one(geometry: Geometry) -> None:
    coefficients = geometry.coefficients_of(geometry.sample(np.random.default_rng(0), 100))
    assert coefficients.shape == (100, geometry.endpoints)
    np.testing.assert_allclose(coefficients.sum(1), 1)
    assert (coefficients >= 0).all()
