from __future__ import annotations

import math

import pytest
import torch

from subspace_serve.architectures import Architecture
from subspace_serve.errors import CheckpointError, GeometryError
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace, endpoint_distances, load_weights, mismatch, weights_of

ARCHITECTURE = Architecture("cresnet8-4", classes=10, channels=1, height=8, width=8)


def subspace(name: str, endpoints: int) -> Subspace:
    torch.manual_seed(0)
    return Subspace(
        Geometry(name, endpoints), ARCHITECTURE, tuple(weights_of(ARCHITECTURE.build()) for _ in range(endpoints))
    )


@pytest.mark.parametrize(("name", "endpoints"), [("line", 2), ("curve", 3), ("simplex", 4), ("simplex", 1)])
def test_collapsing_at_an_end_is_that_end_bit_for_bit(name: str, endpoints: int) -> None:
    trained = subspace(name, endpoints)
    for end, expected in zip(trained.geometry.ends, trained.endpoints, strict=False):
        model = trained.collapse(end)
        assert not model.training
        for parameter, value in model.named_parameters():
            assert torch.equal(value, expected[parameter])


def test_the_middle_of_a_curve_by_hand() -> None:
    trained = subspace("curve", 3)
    first, second, bend = (endpoint["fc.weight"] for endpoint in trained.endpoints)
    expected = 0.25 * first + 0.25 * second + 0.5 * bend
    torch.testing.assert_close(trained.weights(0.5)["fc.weight"], expected)
    torch.testing.assert_close(trained.collapse(0.5).get_parameter("fc.weight").detach(), expected)


def test_collapsing_leaves_the_endpoints_as_they_are() -> None:
    trained = subspace("line", 2)
    before = [{name: value.clone() for name, value in endpoint.items()} for endpoint in trained.endpoints]
    model = trained.collapse(0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for endpoint, kept in zip(trained.endpoints, before, strict=True):
        assert all(torch.equal(endpoint[name], kept[name]) for name in kept)


def test_alpha_is_checked() -> None:
    with pytest.raises(GeometryError, match="outside"):
        subspace("line", 2).collapse(1.05)
    assert subspace("line", 2).collapse(1.05, extrapolate=True) is not None


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    weights = weights_of(ARCHITECTURE.build())
    model = ARCHITECTURE.build()
    assert mismatch(weights, weights) is None
    for broken, message in [
        ({name: value for name, value in weights.items() if name != "fc.bias"}, r"missing fc\.bias"),
        (weights | {"extra": torch.zeros(1)}, "unknown extra"),
        (weights | {"fc.bias": torch.zeros(3)}, r"fc\.bias has shape \(3,\), expected \(10,\)"),
        (weights | {"fc.bias": torch.zeros(10, dtype=torch.float64)}, r"fc\.bias has type torch\.float64"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            load_weights(model, broken)


def test_a_subspace_has_as_many_endpoints_as_its_geometry() -> None:
    with pytest.raises(CheckpointError, match="line of 2 endpoints was given 1"):
        Subspace(Geometry("line", 2), ARCHITECTURE, (weights_of(ARCHITECTURE.build()),))


def test_distances_look_at_matrices_only() -> None:
    first = {"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([9.0])}
    second = {"weight": torch.tensor([[4.0, 3.0]]), "bias": torch.tensor([0.0])}
    (distance,) = endpoint_distances((first, second))
    assert distance["pair"] == [0, 1]
    assert distance["l2"] == pytest.approx(math.sqrt(2))
    assert distance["cosine_squared"] == pytest.approx((24 / 25) ** 2)
