"""The training step against the same mathematics written with autograd and torch's own SGD."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_steppers import CPU, DECAY, MOMENTUM, RATE, batch, small_network, stepper_for
from torch import nn
from torch.func import functional_call

from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Weights
from trainer.modules import weights_of
from trainer.parameters import EndpointMatrix, FlatNetwork, Layout, cosine_gradient
from trainer.schedule import StepSettings
from trainer.step import Stepper, draw


def autograd_steps(stepper: Stepper, start: list[Weights], batches: list) -> list[Weights]:
    """Take the same steps with explicit endpoints, autograd through the weighted sum, and torch.optim.SGD."""
    config, names = stepper.config, list(start[0])
    endpoints = [
        {name: torch.tensor(array, requires_grad=True) for name, array in weights.items()} for weights in start
    ]
    optimizer = torch.optim.SGD(
        [tensor for endpoint in endpoints for tensor in endpoint.values()],
        lr=RATE,
        momentum=MOMENTUM,
        weight_decay=DECAY,
    )
    network, layout = small_network().train(), stepper.endpoints.layout
    layer_of = dict(zip(layout.shapes, layout.layers, strict=True))
    generator = np.random.default_rng(1)
    for images, labels in batches:
        drawn = draw(
            config.geometry,
            generator,
            samples=config.samples,
            layers=layout.layer_count if config.layerwise else 1,
            device=CPU,
        )
        loss = torch.zeros(())
        groups = zip(images.tensor_split(config.samples), labels.tensor_split(config.samples), strict=True)
        for coefficients, (group, answers) in zip(drawn.coefficients, groups, strict=True):
            weights = {
                name: sum(
                    coefficients[i, layer_of[name] if config.layerwise else 0] * endpoint[name]
                    for i, endpoint in enumerate(endpoints)
                )
                for name in names
            }
            loss = loss + nn.functional.cross_entropy(functional_call(network, weights, group), answers)
        loss = loss / config.samples
        if drawn.pair is not None:
            j, k = (
                torch.cat([endpoints[i][name].flatten() for name in names if endpoints[i][name].dim() >= 2])
                for i in drawn.pair
            )
            loss = loss + config.beta * nn.functional.cosine_similarity(j, k, dim=0).square()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [{name: tensor.detach().numpy() for name, tensor in endpoint.items()} for endpoint in endpoints]


@pytest.mark.parametrize(
    "settings",
    [
        {"subspace": "standard"},
        {"subspace": "line"},
        {"subspace": "line", "beta": 0.0},
        {"subspace": "line", "layerwise": True},
        {"subspace": "line", "samples": 2},
        {"subspace": "curve", "beta": 2.0},
        {"subspace": "simplex", "endpoints": 4, "beta": 3.0},
        {"subspace": "simplex", "endpoints": 3, "layerwise": True, "samples": 2},
    ],
    ids=str,
)
def test_steps_equal_autograd_and_torch_sgd(settings: dict) -> None:
    stepper, start = stepper_for(channels_last=True, **settings)
    batches = [batch(seed) for seed in range(4)]
    expected = autograd_steps(stepper, start, batches)
    generator = np.random.default_rng(1)
    for network in stepper.networks:
        network.model.train()
    for images, labels in batches:
        stepper.step(images, labels, generator, StepSettings(RATE, stepper.config.beta))
    for found, wanted in zip(stepper.endpoints.endpoints(), expected, strict=True):
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-6)
            assert not np.array_equal(found[name], start[0][name])


def test_the_layout_puts_regularised_weights_first_and_convolutions_channels_last() -> None:
    network = small_network()
    layout = Layout.of(network, channels_last=True)
    assert list(layout.shapes) == ["0.weight", "5.weight", "1.weight", "1.bias", "5.bias"]
    assert layout.regularised == 4 * 3 * 9 + 5 * 4
    assert layout.size == layout.regularised + 4 + 4 + 5
    assert layout.layers == (0, 1, 2, 2, 1)
    flat = FlatNetwork(network, layout, CPU)
    convolution = network.get_parameter("0.weight")
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    flat.values.fill_(3.0)
    assert convolution.eq(3).all()
    assert convolution.grad is not None
    assert convolution.grad.data_ptr() == flat.gradient.data_ptr()


def test_the_matrix_gives_back_the_endpoints_it_was_given() -> None:
    stepper, start = stepper_for(channels_last=True, subspace="curve")
    for found, wanted in zip(stepper.endpoints.endpoints(), start, strict=True):
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_collapsing_takes_the_weighted_sum_layer_by_layer() -> None:
    stepper, start = stepper_for(channels_last=True, subspace="line", layerwise=True)
    coefficients = torch.tensor([[1.0, 0.0, 0.25], [0.0, 1.0, 0.75]])
    network = stepper.networks[0]
    stepper.endpoints.collapse_into(network, coefficients)
    found = weights_of(network.model)
    torch.testing.assert_close(found["0.weight"], start[0]["0.weight"])
    torch.testing.assert_close(found["5.bias"], start[1]["5.bias"])
    torch.testing.assert_close(found["1.weight"], 0.25 * start[0]["1.weight"] + 0.75 * start[1]["1.weight"])


def test_the_cosine_gradient_equals_autograd() -> None:
    endpoints = torch.randn(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = 2.5 * torch.cosine_similarity(endpoints[2], endpoints[0], dim=0).square()
    loss.backward()
    found = cosine_gradient(endpoints.detach(), (2, 0), 2.5) @ endpoints.detach()
    torch.testing.assert_close(found, endpoints.grad)
    assert found[1].abs().max() == 0


def test_an_endpoint_of_zeros_has_no_direction() -> None:
    start = [{"weight": np.array([[3.0, 4.0]]) * factor, "bias": np.array([1.0])} for factor in (0, 1, 1)]
    matrix = EndpointMatrix(Layout.of(nn.Linear(2, 1)), start, CPU, layerwise=False)
    assert matrix.distances() == pytest.approx(((5 + 5 + 0) / 3, (0 + 0 + 1) / 3))


def test_distances_are_those_of_the_weights_by_hand() -> None:
    layout = Layout.of(nn.Linear(2, 1))
    start = [
        {"weight": np.array([[3.0, 4.0]]), "bias": np.array([100.0])},
        {"weight": np.array([[4.0, -3.0]]), "bias": np.array([0.0])},
    ]
    l2, cosine_squared = EndpointMatrix(layout, start, CPU, layerwise=False).distances()
    assert l2 == pytest.approx(math.sqrt(50))
    assert cosine_squared == pytest.approx(0)


def test_feature_similarity_is_equation_13() -> None:
    stepper, _ = stepper_for(channels_last=True, subspace="line", samples=2, feature_similarity=3.0)
    alphas = np.array([[[0.2]], [[0.9]]])
    stepper._features = {0: torch.tensor([[1.0, 0.0], [0.0, 0.0]]), 1: torch.tensor([[1.0, 1.0], [0.0, 0.0]])}
    term = stepper._feature_similarity(stepper._similar(alphas, np.random.default_rng(0)))
    assert term.item() == pytest.approx(3.0 * 0.7 * 0.5)


def test_feature_similarity_changes_what_is_learned() -> None:
    ends = []
    for strength in (0.0, 5.0):
        stepper, _ = stepper_for(channels_last=True, subspace="line", samples=2, feature_similarity=strength)
        stepper.step(*batch(), np.random.default_rng(0), StepSettings(RATE, stepper.config.beta))
        ends.append(stepper.endpoints.values.clone())
    assert torch.isfinite(ends[1]).all()
    assert (ends[0] - ends[1]).abs().max() > 1e-4


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_clipping_bounds_the_gradient_of_each_networks_loss_however_many_there_are(samples: int) -> None:
    stepper, _ = stepper_for(channels_last=True, subspace="line", clip_gradient=1e-2, beta=0.0, samples=samples)
    stepper.step(*batch(), np.random.default_rng(0), StepSettings(RATE, stepper.config.beta))
    for network in stepper.networks:
        # A step goes along the mean of the networks' gradients.
        assert samples * network.gradient.norm().item() == pytest.approx(1e-2, rel=1e-2)


def test_the_regulariser_makes_endpoints_orthogonal() -> None:
    cosines = {}
    for beta in (0.0, 1.0):
        stepper, start = stepper_for(channels_last=True, subspace="line", beta=beta)
        noise = np.random.default_rng(3)
        near = {name: array + 0.05 * noise.standard_normal(array.shape) for name, array in start[0].items()}
        stepper.endpoints = EndpointMatrix(stepper.endpoints.layout, [start[0], near], CPU, layerwise=False)
        generator = np.random.default_rng(0)
        for step in range(40):
            stepper.step(*batch(step), generator, StepSettings(0.1, beta=beta))
        cosines[beta] = stepper.endpoints.distances()[1]
    assert cosines[1.0] < 0.1 < 0.5 < cosines[0.0]


@pytest.mark.parametrize("geometry", [Geometry("line", 2), Geometry("curve", 3), Geometry("simplex", 4)])
def test_a_draw_has_one_place_a_sample_and_layer(geometry: Geometry) -> None:
    drawn = draw(geometry, np.random.default_rng(0), samples=3, layers=5, device=CPU)
    assert len(drawn.coefficients) == 3
    for coefficients in drawn.coefficients:
        assert coefficients.shape == (geometry.endpoints, 5)
        torch.testing.assert_close(coefficients.sum(0), torch.ones(5))
        assert len(coefficients[0].unique()) == 5
    assert drawn.pair is not None
    assert drawn.pair[0] != drawn.pair[1]


def test_every_pair_of_endpoints_is_drawn() -> None:
    generator = np.random.default_rng(0)
    pairs = {draw(Geometry("simplex", 3), generator, samples=1, layers=1, device=CPU).pair for _ in range(100)}
    assert {frozenset(pair) for pair in pairs if pair} == {frozenset(p) for p in ((0, 1), (0, 2), (1, 2))}
