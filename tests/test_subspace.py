from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from untrained import DIGITS, untrained

from subspace_serve.errors import CheckpointError, GeometryError
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace, mismatch
from trainer.architectures import build
from trainer.modules import collapsed, load_weights, weights_of


@pytest.mark.parametrize(("name", "endpoints"), [("line", 2), ("curve", 3), ("simplex", 4), ("simplex", 1)])
def test_collapsing_at_an_end_is_that_end_bit_for_bit(name: str, endpoints: int) -> None:
    trained = untrained(Geometry(name, endpoints))
    for end, expected in zip(trained.geometry.ends, trained.endpoints, strict=False):
        model = collapsed(trained, end)
        assert not model.training
        for parameter, value in model.named_parameters():
            assert np.array_equal(value.detach().numpy(), expected[parameter])


def test_the_middle_of_a_curve_by_hand() -> None:
    trained = untrained(Geometry("curve", 3))
    first, second, bend = (endpoint["fc.weight"] for endpoint in trained.endpoints)
    expected = 0.25 * first + 0.25 * second + 0.5 * bend
    np.testing.assert_allclose(trained.weights(0.5)["fc.weight"], expected, rtol=1e-6)
    np.testing.assert_allclose(collapsed(trained, 0.5).get_parameter("fc.weight").detach(), expected, rtol=1e-6)


def test_collapsing_leaves_the_endpoints_as_they_are() -> None:
    trained = untrained(Geometry("line", 2))
    before = [{name: value.copy() for name, value in endpoint.items()} for endpoint in trained.endpoints]
    model = collapsed(trained, 0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for endpoint, kept in zip(trained.endpoints, before, strict=True):
        assert all(np.array_equal(endpoint[name], kept[name]) for name in kept)


def test_alpha_is_checked() -> None:
    with pytest.raises(GeometryError, match="outside"):
        collapsed(untrained(Geometry("line", 2)), 1.05)
    assert collapsed(untrained(Geometry("line", 2)), 1.05, extrapolate=True) is not None


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    weights = weights_of(build(DIGITS))
    model = build(DIGITS)
    assert mismatch(weights, weights) is None
    for broken, message in [
        ({name: value for name, value in weights.items() if name != "fc.bias"}, r"missing fc\.bias"),
        (weights | {"extra": np.zeros(1, np.float32)}, "unknown extra"),
        (weights | {"fc.bias": np.zeros(3, np.float32)}, r"fc\.bias has shape \(3,\), expected \(10,\)"),
        (weights | {"fc.bias": np.zeros(10)}, r"fc\.bias has type float64"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            load_weights(model, broken)


def test_a_subspace_has_as_many_endpoints_as_its_geometry() -> None:
    with pytest.raises(CheckpointError, match="line of 2 endpoints was given 1"):
        Subspace(Geometry("line", 2), DIGITS, (weights_of(build(DIGITS)),))


def test_distances_look_at_matrices_only() -> None:
    first = {"weight": np.array([[3.0, 4.0]]), "bias": np.array([9.0])}
    second = {"weight": np.array([[4.0, 3.0]]), "bias": np.array([0.0])}
    (distance,) = Subspace(Geometry("line", 2), DIGITS, (first, second)).endpoint_distances()
    assert distance["pair"] == [0, 1]
    assert distance["l2"] == pytest.approx(math.sqrt(2))
    assert distance["cosine_squared"] == pytest.approx((24 / 25) ** 2)


def test_an_endpoint_of_zeros_has_no_direction() -> None:
    zeros = {"weight": np.zeros((1, 2)), "bias": np.array([1.0])}
    other = {"weight": np.array([[3.0, 4.0]]), "bias": np.array([0.0])}
    (distance,) = Subspace(Geometry("line", 2), DIGITS, (zeros, other)).endpoint_distances()
    assert distance == {"pair": [0, 1], "l2": 5.0, "cosine_squared": 0.0}
