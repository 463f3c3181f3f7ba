"""Test error on the plane through three sets of weights (figure 2; Garipov et al. 2018, appendix A.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace_serve.data import Images
from subspace_serve.errors import GeometryError
from subspace_serve.measure.networks import check_labels
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.network.network import Network
from subspace_serve.space.subspace import Subspace, Weights, mismatch, mixture

DEFAULT_RESOLUTION = 9
DEFAULT_MARGIN = 0.2

_PATH_POINTS = 33
_COLLINEAR = 1e-4


@dataclass(frozen=True)
class Plane:
    """The plane through three weight vectors, the first at the origin and the second on the x axis.

    The axes come from Gram-Schmidt: x along w1 - w0, y along the part of w2 - w0 that is orthogonal to it. Lengths in
    the plane are L2 distances over all weights.

    Attributes:
        names: of the three.
        weights: of the three.
        coordinates: of the three in the plane, ((0, 0), (a, 0), (b, h)).
    """

    names: tuple[str, str, str]
    weights: tuple[Weights, Weights, Weights]
    coordinates: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

    def coefficients(self, x: float, y: float) -> tuple[float, float, float]:
        """Return the coefficients of the three sets of weights for the network at (x, y); they sum to 1."""
        (_, _), (a, _), (b, h) = self.coordinates
        third = y / h
        second = (x - third * b) / a
        return 1 - second - third, second, third

    def at(self, x: float, y: float) -> dict[str, np.ndarray]:
        """Return the weights of the network at (x, y); at one of the three they are exactly that one's."""
        return mixture(self.coefficients(x, y), self.weights)


def plane_through(vectors: dict[str, Weights]) -> Plane:
    """Return the plane through three sets of weights.

    Raises:
        GeometryError: there are not three, they do not belong to one architecture, or they lie on one line.
    """
    if len(vectors) != 3:
        raise GeometryError(f"a plane goes through three sets of weights, not {len(vectors)}")
    names = tuple(vectors)
    origin, second, third = vectors.values()
    for name, weights in list(vectors.items())[1:]:
        problem = mismatch(weights, origin)
        if problem:
            raise GeometryError(
                f"{name} is no network of the same architecture as {names[0]} ({problem}); a plane goes through "
                "networks of one architecture"
            )
    first_axis, other = _difference(second, origin), _difference(third, origin)
    a = float(np.linalg.norm(first_axis))
    b = float(other @ first_axis) / a if a else 0.0
    h = float(np.linalg.norm(other - first_axis * (b / a))) if a else 0.0
    if h <= _COLLINEAR * max(a, float(np.linalg.norm(other)), 1e-12):
        raise GeometryError(
            f"{names[0]}, {names[1]} and {names[2]} lie on one line in weight space, so no plane is given by them; "
            "choose another third network"
        )
    return Plane(names, (origin, second, third), ((0.0, 0.0), (a, 0.0), (b, h)))  # type: ignore[arg-type]


def subspace_plane(subspace: Subspace, standard: Weights | None = None, *, buffers: Weights | None = None) -> Plane:
    """Return the plane in which a subspace is shown: through its first three endpoints, as in Figure 2.

    A line, or a simplex of two, has only two: the third is a standard network of the same architecture.

    Args:
        subspace: to show.
        standard: the weights of that network.
        buffers: what its run keeps beside them; None where it is the subspace's.

    Raises:
        GeometryError: the third is missing, of another architecture, on a line with the others, or keeps other buffers.
    """
    vectors: dict[str, Weights] = {f"endpoint-{i}": weights for i, weights in enumerate(subspace.endpoints[:3])}
    if subspace.geometry.name == "curve":
        vectors = dict(zip(("endpoint-0", "endpoint-1", "control point"), subspace.endpoints, strict=True))
    if len(vectors) == 2 and standard is not None:
        kept = subspace.buffers if buffers is None else buffers
        if other := {name for name in {*kept, *subspace.buffers} if not _same(kept, subspace.buffers, name)}:
            raise GeometryError(
                f"the standard network keeps another {min(other)} than this {subspace.geometry.name}, and the networks "
                "of a plane share one; name one that was trained from the same start"
            )
        vectors["standard network"] = standard
    if len(vectors) < 3:
        raise GeometryError(
            f"the plane goes through three sets of weights and this {subspace.geometry.name} has {len(vectors)}; name "
            "a standard network of the same architecture (--baseline RUN)"
        )
    return plane_through(vectors)


def subspace_path(subspace: Subspace, plane: Plane) -> list[list[float]]:
    """Return the subspace's outline in its plane as points (x, y): the line, the curve, or the triangle of a simplex.

    For a simplex it is that of the first three endpoints; of two it is the edge between them.
    """
    corners = np.asarray(plane.coordinates)
    if subspace.geometry.barycentric:
        outline = np.eye(2) if subspace.geometry.endpoints == 2 else np.eye(3)[[0, 1, 2, 0]]
    else:
        outline = subspace.geometry.coefficients_of(np.linspace(0, 1, _PATH_POINTS))
    points: list[list[float]] = (outline @ corners[: outline.shape[1]]).tolist()
    return points


def plane_errors(
    plane: Plane,
    network: Network,
    images: Images,
    *,
    calibration: CalibrationData,
    resolution: int = DEFAULT_RESOLUTION,
    margin: float = DEFAULT_MARGIN,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure the error of the networks on a grid over a plane, and of the three that span it.

    Every network's BatchNorm is recalibrated (appendix D.3). There are resolution squared plus three networks, each run
    over the calibration images and over `images`: limit both (2,000 each are enough for a picture).

    Args:
        plane: the plane to measure on.
        network: a subspace of the same architecture, on ONNX Runtime.
        images: labelled images, on which the error is measured.
        calibration: images from which each network's BatchNorm statistics are recomputed.
        resolution: networks per side, 2 or more.
        margin: how far the grid extends beyond the three, as a fraction of their extent.
        progress: called with a line for each row.

    Returns:
        JSON values: `vectors`, each with `name`, `x`, `y`, `error`; `x` and `y`, the grid's coordinates; `error`, a row
        for each y of fractions in [0, 1]; `count`, `calibration`.

    Raises:
        GeometryError: the resolution is less than 2, or the margin negative or not finite.
        DataError: there are no images, or a label is not one of the network's classes.
    """
    if resolution < 2 or not 0 <= margin < math.inf:
        raise GeometryError(
            f"a plane takes 2 networks a side or more and a margin of 0 or more; got {resolution} and {margin:g}"
        )
    check_labels(images, network.classes)

    def error(x: float, y: float) -> float:
        weights = network.skeleton.vector(plane.at(x, y))
        statistics = network.recalibrate(calibration.pixels(), weights=weights)
        logits = network.with_weights(weights, statistics).logits_of(images)
        return 1 - float((logits.argmax(1) == images.labels).mean())

    vectors = [
        {"name": name, "x": x, "y": y, "error": error(x, y)}
        for name, (x, y) in zip(plane.names, plane.coordinates, strict=True)
    ]
    x_grid, y_grid = (_grid(values, resolution, margin) for values in zip(*plane.coordinates, strict=True))
    errors = []
    for row, y in enumerate(y_grid):
        errors.append([error(x, y) for x in x_grid])
        progress(f"plane, row {row + 1} of {resolution}")
    return {
        "vectors": vectors,
        "x": x_grid,
        "y": y_grid,
        "error": errors,
        "count": len(images),
        "calibration": calibration.to_json(),
    }


def _same(first: Weights, second: Weights, name: str) -> bool:
    return name in first and name in second and np.array_equal(first[name], second[name])


def _difference(weights: Weights, origin: Weights) -> np.ndarray:
    return np.concatenate([(array.astype(np.float64) - origin[name]).reshape(-1) for name, array in weights.items()])


def _grid(values: Sequence[float], resolution: int, margin: float) -> list[float]:
    low, high = min(values), max(values)
    extra = margin * (high - low)
    grid: list[float] = np.linspace(low - extra, high + extra, resolution).tolist()
    return grid
