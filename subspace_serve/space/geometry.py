"""Geometries: how a place alpha in a subspace turns into coefficients of its endpoints.

Every geometry of the paper (section 3) is linear in its endpoints: P(alpha) = sum over i of c_i(alpha) * omega_i.
A geometry is therefore just its coefficient function c, the domain of alpha, and a way to sample from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from subspace_serve.errors import GeometryError
from subspace_serve.space.place import Alpha

SIMPLEX_SUM_TOLERANCE = 1e-6
EXTRAPOLATION_LIMIT = 1.0
"""How far outside [0, 1] a line may be followed when extrapolation is asked for (the paper uses 0.05)."""


def line_coefficients(alpha: np.ndarray) -> np.ndarray:
    """Return (1 - a, a): the line between two endpoints (section 3). Shape (...,) to (..., 2)."""
    return np.stack([1 - alpha, alpha], axis=-1)


def curve_coefficients(alpha: np.ndarray) -> np.ndarray:
    """Return ((1 - a)^2, a^2, 2a(1 - a)): a quadratic Bezier curve (section 3). Shape (...,) to (..., 3).

    Endpoints 0 and 1 are the curve's ends; endpoint 2 is the bend, through which the curve does not pass.
    """
    return np.stack([(1 - alpha) ** 2, alpha**2, 2 * alpha * (1 - alpha)], axis=-1)


def simplex_coefficients(alpha: np.ndarray) -> np.ndarray:
    """Return alpha itself: barycentric coordinates are the coefficients. Shape (..., m) to (..., m)."""
    return alpha


def _sample_unit_interval(generator: np.random.Generator, size: int, endpoints: int) -> np.ndarray:
    return generator.random(size)


def _sample_simplex(generator: np.random.Generator, size: int, endpoints: int) -> np.ndarray:
    """Draw uniformly from the probability simplex: exponential variables, normalised (appendix D.1)."""
    exponentials = generator.standard_exponential((size, endpoints))
    places: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return places


@dataclass(frozen=True)
class Geometry:
    """A shape in weight space with a fixed number of endpoints.

    Attributes:
        name: `line`, `curve` or `simplex`.
        endpoints: how many sets of weights span it.
    """

    name: str
    endpoints: int

    def __post_init__(self) -> None:
        if self.name not in _SHAPES:
            raise GeometryError(f"unknown geometry {self.name!r}; the geometries are {', '.join(_SHAPES)}")
        low, high = _SHAPES[self.name].endpoints
        if not low <= self.endpoints <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            raise GeometryError(f"a {self.name} has {wanted} endpoints, not {self.endpoints}")

    @property
    def barycentric(self) -> bool:
        """Whether alpha is a vector with one coordinate per endpoint (a simplex) rather than one number."""
        return _SHAPES[self.name].barycentric

    @property
    def ends(self) -> list[Alpha]:
        """The places that coincide with an endpoint, in the order of the endpoints (a curve's bend has none)."""
        if self.barycentric:
            return [tuple(float(i == j) for j in range(self.endpoints)) for i in range(self.endpoints)]
        return [0.0, 1.0]

    @property
    def midpoint(self) -> Alpha:
        """The centre of the domain: 0.5, or equal weights for a simplex."""
        if self.barycentric:
            return (1 / self.endpoints,) * self.endpoints
        return 0.5

    def check(self, alpha: Alpha, *, extrapolate: bool = False) -> Alpha:
        """Return `alpha` as a float or a tuple of floats.

        Raises:
            GeometryError: it has the wrong length, is not finite, or lies outside the domain. A line may be followed
                a little beyond its ends (section 4.6) when `extrapolate` is true.
        """
        value = _numbers(alpha)
        if self.barycentric:
            return self._check_barycentric(value)
        if isinstance(value, tuple):
            raise GeometryError(f"alpha of a {self.name} is one number, not {_describe(value)}")
        if 0 <= value <= 1:
            return value
        if self.name == "line" and extrapolate and abs(value - 0.5) <= 0.5 + EXTRAPOLATION_LIMIT:
            return value
        remedy = ""
        if self.name == "line" and math.isfinite(value):
            remedy = (
                f"; at most {EXTRAPOLATION_LIMIT:g} beyond the ends is allowed"
                if extrapolate
                else "; extrapolate (--extrapolate) allows values a little outside"
            )
        raise GeometryError(f"alpha {value:g} lies outside [0, 1], the domain of a {self.name}{remedy}")

    def _check_barycentric(self, values: float | tuple[float, ...]) -> Alpha:
        if not isinstance(values, tuple) or len(values) != self.endpoints:
            raise GeometryError(
                f"alpha of a simplex with {self.endpoints} endpoints is {self.endpoints} numbers that sum to 1, "
                f"not {_describe(values)}"
            )
        if not all(math.isfinite(value) and value >= 0 for value in values):
            raise GeometryError(f"alpha of a simplex has finite and no negative numbers: got {_describe(values)}")
        if abs(sum(values) - 1) > SIMPLEX_SUM_TOLERANCE:
            raise GeometryError(f"alpha of a simplex sums to 1; {_describe(values)} sums to {sum(values):g}")
        return values

    def snapped(self, alpha: Alpha, step: float) -> Alpha:
        """Return the nearest place whose coordinates are multiples of 1 / round(1 / step).

        Raises:
            GeometryError: as `check`.
        """
        parts = max(1, round(1 / step))
        value = self.check(alpha)
        if not isinstance(value, Sequence):
            return round(value * parts) / parts
        # Rounded down, then raised by one step where most was lost, so that the sum stays 1.
        scaled = np.asarray(value) / sum(value) * parts
        counts = np.floor(scaled.round(9)).astype(int)
        counts[np.argsort(counts - scaled, kind="stable")[: parts - counts.sum()]] += 1
        return tuple((counts / parts).tolist())

    def coefficients(self, alpha: Alpha, *, extrapolate: bool = False) -> np.ndarray:
        """Return c(alpha), one float64 per endpoint; they sum to 1. Shape (endpoints,).

        Raises:
            GeometryError: as `check`.
        """
        checked = np.asarray(self.check(alpha, extrapolate=extrapolate), dtype=np.float64)
        return _SHAPES[self.name].coefficients(checked)

    def sample(self, generator: np.random.Generator, size: int) -> np.ndarray:
        """Draw `size` places uniformly from the domain. Shape (size,), or (size, endpoints) for a simplex."""
        return _SHAPES[self.name].sample(generator, size, self.endpoints)

    def coefficients_of(self, alphas: np.ndarray) -> np.ndarray:
        """Return the coefficients of many places drawn by `sample`, unchecked. Shape (size, endpoints)."""
        return _SHAPES[self.name].coefficients(alphas)

    def opposite(self, alpha: Alpha) -> Alpha | None:
        """Return 1 - alpha, the partner in the paper's two-member ensembles (section 4.2); None for a simplex."""
        return None if self.barycentric else 1 - float(alpha)  # type: ignore[arg-type]


def single_network() -> Geometry:
    """Return the geometry of an ordinary network: a simplex with one endpoint, whose only place is (1,)."""
    return Geometry("simplex", 1)


def _numbers(alpha: Alpha) -> float | tuple[float, ...]:
    """Return a number or numbers of any kind (NumPy's, torch's) as Python floats."""
    if isinstance(alpha, float):
        return float(alpha)
    try:
        values = np.asarray(alpha, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        values = None
    if values is None or values.ndim > 1:
        raise GeometryError(f"alpha is one number or a sequence of numbers, not {alpha!r}")
    return float(values) if values.ndim == 0 else tuple(values.tolist())


def _describe(values: float | tuple[float, ...]) -> str:
    if isinstance(values, tuple):
        return "(" + ", ".join(f"{value:g}" for value in values) + ")"
    return f"the single number {values:g}"


@dataclass(frozen=True)
class _Shape:
    coefficients: Callable[[np.ndarray], np.ndarray]
    sample: Callable[[np.random.Generator, int, int], np.ndarray]
    endpoints: tuple[int, int]
    barycentric: bool = False


_SHAPES = {
    "line": _Shape(line_coefficients, _sample_unit_interval, (2, 2)),
    "curve": _Shape(curve_coefficients, _sample_unit_interval, (3, 3)),
    # One endpoint is an ordinary network, so that a baseline is the smallest simplex.
    "simplex": _Shape(simplex_coefficients, _sample_simplex, (1, 10), barycentric=True),
}
