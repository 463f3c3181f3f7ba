"""Steps of the trainer's variants: integral networks, endpoints that have not parted, scaled gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_steppers import DECAY, MOMENTUM, RATE, batch, small_network, stepper_for
from torch import Tensor, nn
from torch.func import functional_call

from subspace_serve.space.subspace import Weights
from trainer.integral import IntegralStepper
from trainer.schedule import StepSettings


def plain_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 8), nn.Tanh(), nn.Linear(8, 5))


def tensors(weights: Weights) -> dict[str, Tensor]:
    return {name: torch.tensor(array) for name, array in weights.items()}


class Places:
    """Stands for a generator of random numbers: its numbers are those given."""

    def __init__(self, places: list[float]) -> None:
        self._places = iter(places)

    def random(self) -> float:
        return next(self._places)


# Integral networks


@pytest.mark.parametrize(("beta", "epsilon"), [(0.0, 0.1), (2.0, 0.1), (1.0, 0.5)])
def test_an_integral_step_equals_autograd_through_equation_17_and_torch_sgd(beta: float, epsilon: float) -> None:
    stepper, _ = stepper_for(subspace="integral", beta=beta, epsilon=epsilon)
    start = stepper.endpoints.endpoints()
    ends = [{name: value.requires_grad_() for name, value in tensors(weights).items()} for weights in start]
    optimizer = torch.optim.SGD(
        [value for end in ends for value in end.values()], lr=RATE, momentum=MOMENTUM, weight_decay=DECAY
    )
    network, places = small_network().train(), [0.3, 0.97, 0.0, 0.61]

    def g(images: Tensor, place: float) -> Tensor:
        weights = {name: (1 - place) * ends[0][name] + place * ends[1][name] for name in ends[0]}
        return functional_call(network, weights, images)

    generator = Places(places)
    for seed, alpha in enumerate(places):
        images, labels = batch(seed)
        f = g(images, 0) + (g(images, alpha + epsilon) - g(images, alpha)) / epsilon
        loss = nn.functional.cross_entropy(f, labels)
        first, second = (torch.cat([end[name].flatten() for name in end if end[name].dim() >= 2]) for end in ends)
        penalty = beta * nn.functional.cosine_similarity(first, second, dim=0).square()
        optimizer.zero_grad()
        (loss + penalty).backward()
        optimizer.step()
        found, correct = stepper.step(images, labels, generator, StepSettings(RATE, beta))
        assert found.item() == pytest.approx(loss.item(), rel=1e-4)
        assert correct.item() == (f.argmax(1) == labels).sum()
    for index, (found, wanted) in enumerate(zip(stepper.endpoints.endpoints(), ends, strict=True)):
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name].detach().numpy(), rtol=1e-3, atol=1e-5)
            assert not np.array_equal(found[name], start[index][name])


def test_an_integrals_networks_average_to_the_one_at_its_end() -> None:
    stepper, _ = stepper_for(plain_network, subspace="integral", beta=0.0, epsilon=0.1)
    generator = np.random.default_rng(0)
    for seed in range(20):
        stepper.step(*batch(seed), generator, StepSettings(0.02, beta=0.0))
    answers: list[Tensor] = []
    stepper._loss = lambda logits, labels: (answers.append(logits.detach()), logits.sum())[1]  # type: ignore[assignment]
    images, labels = batch(99)
    grid = [index / 10 for index in range(10)]
    for _ in grid:
        stepper.step(images, labels, generator=Places([grid[len(answers)]]), settings=StepSettings(0.0, beta=0.0))
    first, last = (
        functional_call(plain_network(), tensors(weights), images).detach() for weights in stepper.endpoints.endpoints()
    )
    assert (first - last).abs().max() > 0.1
    assert (answers[0] - answers[5]).abs().max() > 0.01
    # The sum over places 0.1 apart of differences of 0.1 telescopes (equation 16).
    torch.testing.assert_close(torch.stack(answers).mean(0), last, rtol=1e-4, atol=1e-4)


def test_an_integral_takes_three_networks() -> None:
    stepper, _ = stepper_for(subspace="integral")
    with pytest.raises(ValueError, match="3 networks, not 2"):
        IntegralStepper(stepper.config, stepper.endpoints, stepper.networks[:2])


# Endpoints that have not parted


@pytest.mark.parametrize("layerwise", [False, True])
@pytest.mark.parametrize("subspace", ["line", "curve", "simplex"])
def test_endpoints_that_have_not_parted_take_the_step_of_one_network(subspace: str, layerwise: bool) -> None:
    single, _ = stepper_for(subspace="standard")
    start = single.endpoints.endpoints()
    stepper, _ = stepper_for(start=start * (2 if subspace == "line" else 3), subspace=subspace, layerwise=layerwise)
    generator = np.random.default_rng(0)
    for seed in range(4):
        alone = single.step(*batch(seed), np.random.default_rng(0), StepSettings(RATE))
        together = stepper.step(*batch(seed), generator, StepSettings(RATE, beta=5.0, together=True))
        assert [value.item() for value in together] == pytest.approx([value.item() for value in alone])
    for row, velocity in zip(stepper.endpoints.values, stepper.endpoints.velocity, strict=True):
        assert torch.equal(row, stepper.endpoints.values[0])
        assert torch.equal(velocity, stepper.endpoints.velocity[0])
    found, wanted = stepper.endpoints.velocity[0], single.endpoints.velocity[0]
    if layerwise:  # added layer by layer, which rounds a few numbers in another way
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)
    else:
        assert torch.equal(found, wanted)
        assert torch.equal(stepper.endpoints.values[0], single.endpoints.values[0])
    assert not np.array_equal(single.endpoints.endpoints()[0]["5.weight"], start[0]["5.weight"])
    stepper.step(*batch(4), generator, StepSettings(RATE))
    assert not torch.equal(stepper.endpoints.values[0], stepper.endpoints.values[1])


# Scaled gradients

WITHOUT_REGULARISER = StepSettings(RATE, beta=0.0, spread=0.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"subspace": "line"},
        {"subspace": "curve"},
        {"subspace": "simplex", "endpoints": 3},
        {"subspace": "simplex", "endpoints": 4, "layerwise": True},
        {"subspace": "line", "clip_gradient": 0.05},
    ],
    ids=str,
)
def test_with_scaled_gradients_the_midpoint_takes_a_standard_networks_steps(settings: dict) -> None:
    stepper, _ = stepper_for(scaled_gradients=True, **settings)
    geometry = stepper.config.geometry
    coefficients = torch.from_numpy(geometry.coefficients(geometry.midpoint)).float()

    def midpoint() -> Tensor:
        return coefficients @ stepper.endpoints.values

    start = stepper.endpoints.layout.weights(midpoint())
    single, _ = stepper_for(start=[start], subspace="standard", clip_gradient=settings.get("clip_gradient", 0.0))
    before, generator = midpoint(), np.random.default_rng(0)
    for seed in range(4):
        stepper.step(*batch(seed), generator, WITHOUT_REGULARISER)
        single.step(*batch(seed), generator, WITHOUT_REGULARISER)
    torch.testing.assert_close(midpoint(), single.endpoints.values[0], rtol=1e-4, atol=1e-6)
    assert (midpoint() - before).abs().max() > 1e-3


@pytest.mark.parametrize(("subspace", "share"), [("line", 1 / 2), ("curve", 3 / 8), ("simplex", 1 / 3)])
def test_without_scaling_the_midpoint_takes_a_share_of_the_gradient(subspace: str, share: float) -> None:
    stepper, _ = stepper_for(subspace=subspace, weight_decay=0.0)
    geometry = stepper.config.geometry
    coefficients = torch.from_numpy(geometry.coefficients(geometry.midpoint)).float()
    before = coefficients @ stepper.endpoints.values
    stepper.step(*batch(), np.random.default_rng(0), WITHOUT_REGULARISER)
    moved = coefficients @ stepper.endpoints.values - before
    torch.testing.assert_close(moved, -RATE * share * stepper.networks[0].gradient, rtol=1e-3, atol=1e-6)


def test_a_step_with_spread_draws_between_the_midpoint_and_the_whole() -> None:
    stepper, _ = stepper_for(subspace="line")
    middle, whole = stepper.endpoints.values.mean(0), stepper.endpoints.values.clone()
    place = np.random.default_rng(3).random()
    stepper.step(*batch(), np.random.default_rng(3), StepSettings(0.0, spread=0.5))
    drawn = (1 - place) * whole[0] + place * whole[1]
    torch.testing.assert_close(stepper.networks[0].values, 0.5 * middle + 0.5 * drawn, rtol=1e-5, atol=1e-6)
    assert (drawn - middle).abs().max() > 0.01
