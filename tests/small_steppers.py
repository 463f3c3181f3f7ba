"""Steppers of networks so small that the steps can be taken again by other means."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from subspace_serve.space.subspace import Weights
from trainer.config import TrainingConfig
from trainer.integral import IntegralStepper
from trainer.methods import NEUTRAL
from trainer.modules import weights_of
from trainer.parameters import EndpointMatrix, FlatNetwork, Layout
from trainer.step import Stepper

CPU = torch.device("cpu")
RATE, MOMENTUM, DECAY = 0.05, 0.9, 1e-2


def small_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


def batch(seed: int = 0, count: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 6, 6, generator=generator), torch.randint(5, (count,), generator=generator)


def stepper_for(
    build: Callable[[], nn.Module] = small_network,
    start: list[Weights] | None = None,
    *,
    channels_last: bool = False,
    **settings,
) -> tuple[Stepper, list[Weights]]:
    """Return a stepper on the CPU, and the weights that its endpoints start with."""
    torch.manual_seed(0)
    config = TrainingConfig(**(NEUTRAL | {"momentum": MOMENTUM, "weight_decay": DECAY} | settings))
    integral = config.subspace == "integral"
    networks = [build() for _ in range(3 if integral else config.samples)]
    layout = Layout.of(networks[0], channels_last=channels_last)
    start = start or [weights_of(build()) for _ in range(config.geometry.endpoints)]
    matrix = EndpointMatrix(layout, start, CPU, layerwise=config.layerwise)
    flat = [FlatNetwork(network, layout, CPU) for network in networks]
    return (IntegralStepper if integral else Stepper)(config, matrix, flat), start
