from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from untrained import untrained

from subspace_serve.errors import DataError, GeometryError
from subspace_serve.measure.plane import plane_errors, plane_through, subspace_path, subspace_plane
from subspace_serve.run.opened import OpenRun
from subspace_serve.space.geometry import Geometry, single_network
from subspace_serve.space.subspace import Subspace, Weights
from trainer.modules import as_module, predict_logits


def vector(*values: float) -> Weights:
    return {"weight": np.array(values[:2], np.float32), "bias": np.array(values[2:], np.float32)}


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([array.astype(np.float64).reshape(-1) for array in weights.values()])


# Chosen so that everything comes out in whole numbers: the second is 5 away along (3, 4, 0) / 5, the third
# 10 along that direction and 2 across it.
THREE = {"a": vector(1, 1, 1), "b": vector(4, 5, 1), "c": vector(7, 9, 3)}


def test_the_axes_are_those_of_gram_and_schmidt() -> None:
    plane = plane_through(THREE)
    assert plane.names == ("a", "b", "c")
    assert [list(corner) for corner in plane.coordinates] == [[0, 0], [5, 0], pytest.approx([10, 2])]
    origin = flat(plane.at(0, 0))
    x, y = flat(plane.at(1, 0)) - origin, flat(plane.at(0, 1)) - origin
    assert x.tolist() == pytest.approx([0.6, 0.8, 0], abs=1e-6)
    assert y.tolist() == pytest.approx([0, 0, 1], abs=1e-6)


def test_random_axes_are_orthonormal_and_keep_distances() -> None:
    generator = np.random.default_rng(0)
    weights = {name: {"weight": generator.standard_normal((40, 25), np.float32)} for name in "abc"}
    plane = plane_through(weights)
    origin = flat(plane.at(0, 0))
    x, y = flat(plane.at(1, 0)) - origin, flat(plane.at(0, 1)) - origin
    assert np.linalg.norm(x) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(y) == pytest.approx(1, abs=1e-5)
    assert x @ y == pytest.approx(0, abs=1e-5)
    between = math.dist(plane.coordinates[1], plane.coordinates[2])
    assert between == pytest.approx(np.linalg.norm(flat(weights["b"]) - flat(weights["c"])), rel=1e-6)


def test_the_three_are_themselves_to_the_bit() -> None:
    plane = plane_through(
        {name: {"w": np.random.default_rng(i).standard_normal(50, np.float32)} for i, name in enumerate("abc")}
    )
    for weights, (x, y) in zip(plane.weights, plane.coordinates, strict=True):
        assert sum(plane.coefficients(x, y)) == 1
        assert np.array_equal(plane.at(x, y)["w"], weights["w"])
    assert sum(plane.coefficients(0.3, -0.7)) == pytest.approx(1)


def test_three_on_a_line_give_no_plane() -> None:
    with pytest.raises(GeometryError, match="a, b and c lie on one line"):
        plane_through(THREE | {"c": vector(7, 9, 1)})
    with pytest.raises(GeometryError, match="lie on one line"):
        plane_through(THREE | {"b": THREE["a"]})


def test_networks_of_other_architectures_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"c is no network of the same architecture as a \(bias has shape"):
        plane_through(THREE | {"c": vector(7, 9, 3, 4)})
    with pytest.raises(GeometryError, match="not 2"):
        plane_through({name: THREE[name] for name in "ab"})


def test_a_line_needs_a_third_network(line_run: Path) -> None:
    run = OpenRun(line_run)
    with pytest.raises(GeometryError, match=r"this line has 2; .* \(--baseline RUN\)"):
        subspace_plane(run.subspace)
    standard = untrained(single_network()).endpoints[0]
    plane = subspace_plane(run.subspace, standard)
    assert plane.names == ("endpoint-0", "endpoint-1", "standard network")
    assert plane.weights[2] is standard
    path = subspace_path(run.subspace, plane)
    assert path[0] == [0, 0]
    assert path[-1] == pytest.approx(plane.coordinates[1])
    assert all(y == 0 for _, y in path)


def test_a_standard_network_with_other_buffers_lies_in_no_plane_of_a_line(line_run: Path) -> None:
    line = replace(OpenRun(line_run).subspace, buffers={"frozen.weight": np.zeros(2, np.float32)})
    standard = {name: 2 * values + 1 for name, values in line.endpoints[0].items()}
    assert subspace_plane(line, standard, buffers=dict(line.buffers)).names[2] == "standard network"
    for other in ({}, {"frozen.weight": np.ones(2, np.float32)}, line.buffers | {"drawn": np.ones(1, np.float32)}):
        with pytest.raises(GeometryError, match=r"keeps another (frozen\.weight|drawn) than this line"):
            subspace_plane(line, standard, buffers=other)


def test_curves_and_simplexes_have_a_plane_of_their_own() -> None:
    curve = untrained(Geometry("curve", 3))
    plane = subspace_plane(curve)
    assert plane.names == ("endpoint-0", "endpoint-1", "control point")
    (_, _), (a, _), (b, h) = plane.coordinates
    middle = subspace_path(curve, plane)[16]
    assert middle == pytest.approx([a / 4 + b / 2, h / 2])  # P(1/2) = (w0 + w1 + 2 w2) / 4
    np.testing.assert_allclose(flat(plane.at(*middle)), flat(curve.weights(0.5)), rtol=0, atol=1e-6)

    simplex = untrained(Geometry("simplex", 4))
    plane = subspace_plane(simplex)
    assert plane.names == ("endpoint-0", "endpoint-1", "endpoint-2")
    corners = [list(corner) for corner in plane.coordinates]
    assert subspace_path(simplex, plane) == [*corners, corners[0]]


def test_a_simplex_of_two_is_the_edge_between_them() -> None:
    simplex = untrained(Geometry("simplex", 2))
    plane = subspace_plane(simplex, {name: 2 * values + 1 for name, values in simplex.endpoints[0].items()})
    assert plane.names == ("endpoint-0", "endpoint-1", "standard network")
    assert subspace_path(simplex, plane) == [[0, 0], list(plane.coordinates[1])]


def test_errors_equal_those_of_the_networks_evaluated_one_by_one(line_run: Path) -> None:
    run = OpenRun(line_run, calibration_count=128)
    standard = untrained(single_network())
    plane = subspace_plane(run.subspace, standard.endpoints[0])
    images = run.data.test.subset(np.arange(90))
    lines: list[str] = []
    document = plane_errors(
        plane,
        run.network,
        images,
        calibration=run.calibration,
        resolution=3,
        margin=0.5,
        progress=lines.append,
    )

    def error(subspace: Subspace, alpha: float | tuple[float, ...]) -> float:
        logits = predict_logits(as_module(subspace, alpha, run.calibration), images, run.preprocessing)
        return (logits.argmax(1) != images.labels).mean()

    ends = [error(run.subspace, 0.0), error(run.subspace, 1.0), error(standard, (1.0,))]
    assert [vector["error"] for vector in document["vectors"]] == pytest.approx(ends)
    assert ends[2] > ends[0]
    # With a margin of a half, the grid is a width and a height to each side of the middle.
    (_, _), (a, _), (b, h) = plane.coordinates
    low, high = min(0, b), max(a, b)
    assert document["x"] == pytest.approx([low - (high - low) / 2, (low + high) / 2, high + (high - low) / 2])
    assert document["y"] == pytest.approx([-h / 2, h / 2, 3 * h / 2])
    there = Subspace(single_network(), standard.architecture, (plane.at(document["x"][2], document["y"][0]),))
    assert document["error"][0][2] == pytest.approx(error(there, (1.0,)))
    assert [len(row) for row in document["error"]] == [3, 3, 3]
    assert document["count"] == 90
    assert document["calibration"]["count"] == 128
    assert lines[-1] == "plane, row 3 of 3"


def test_a_plane_that_cannot_be_measured_is_refused(line_run: Path) -> None:
    run = OpenRun(line_run, calibration_count=128)
    plane = subspace_plane(run.subspace, untrained(single_network()).endpoints[0])
    others = run.data.test.with_labels(np.full(len(run.data.test), 10))
    with pytest.raises(GeometryError, match="got 1 and 0.2"):
        plane_errors(plane, run.network, run.data.test, calibration=run.calibration, resolution=1)
    with pytest.raises(GeometryError, match="got 9 and -1"):
        plane_errors(plane, run.network, run.data.test, calibration=run.calibration, margin=-1)
    with pytest.raises(DataError, match="a label is"):
        plane_errors(plane, run.network, others, calibration=run.calibration)
