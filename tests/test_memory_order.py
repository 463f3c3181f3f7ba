"""Networks whose layers torch cannot train in channels-last order on a CPU are trained in contiguous order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from subspace_serve.errors import TrainingError
from subspace_serve.space.architecture import Architecture
from trainer.architectures import build
from trainer.config import TrainingConfig
from trainer.memory_order import channels_last_is_safe
from trainer.modules import weights_of
from trainer.parameters import EndpointMatrix, FlatNetwork, Layout
from trainer.schedule import StepSettings
from trainer.step import Stepper

CPU = torch.device("cpu")


def architecture(name: str = "cresnet8", channels: int = 3, side: int = 16) -> Architecture:
    return Architecture(name, classes=5, channels=channels, height=side, width=side)


def strided(inputs: int, channels: int, groups: int = 1) -> nn.Module:
    """A network with a strided 1x1 convolution of so many input channels."""
    return nn.Sequential(
        nn.Conv2d(inputs, channels, 3, padding=1),
        nn.Conv2d(channels, 5 * groups, 1, stride=2, groups=groups),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5 * groups, 5),
    )


@pytest.mark.parametrize("inputs", [1, 3])
@pytest.mark.parametrize(
    ("channels", "safe"),
    [(1, False), (4, False), (7, False), (8, False), (12, False), (15, False), (24, False), (16, True), (32, True)],
)
def test_strided_pointwise_convolutions_with_partly_filled_blocks_are_trained_in_contiguous_order(
    channels: int, safe: bool, inputs: int
) -> None:
    torch.manual_seed(0)
    model = strided(inputs, channels)
    assert channels_last_is_safe(model, architecture(channels=inputs)) == safe
    layout = Layout.of(model, channels_last=safe)
    matrix = EndpointMatrix(layout, [weights_of(model), weights_of(model)], CPU, layerwise=False)
    stepper = Stepper(TrainingConfig(samples=1), matrix, [FlatNetwork(model, layout, CPU)])
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, inputs, 16, 16, generator=generator).to(memory_format=torch.channels_last)
    labels = torch.randint(5, (32,), generator=generator)
    # In channels-last order this crashes the process within a few steps where it is not safe.
    for _ in range(10):
        stepper.step(images, labels, np.random.default_rng(0), StepSettings(0.05))
    assert torch.isfinite(matrix.values).all()


def test_the_channels_of_one_group_count() -> None:
    assert not channels_last_is_safe(strided(3, 32, groups=4), architecture())
    assert channels_last_is_safe(strided(3, 64, groups=4), architecture())


@pytest.mark.parametrize(
    ("name", "safe"),
    [("cresnet8-8", False), ("cresnet8-12", False), ("cresnet20-16", True), ("cresnet8-64", True), ("resnet18", True),
     ("tiny-resnet18", True), ("mobilenet_v3_small", True), ("convnext_tiny", True), ("regnet_x_400mf", True),
     ("regnet_y_400mf", False)],
)  # fmt: skip
def test_known_networks(name: str, safe: bool) -> None:
    assert channels_last_is_safe(build(architecture(name, side=64)), architecture(name, side=64)) == safe


class _Functional(nn.Module):
    """A convolution without a module, whose input it brings to channels-last order itself where that is wanted."""

    def __init__(self, *, permutes: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3, 1, 1))
        self.permutes = permutes

    def forward(self, images: Tensor) -> Tensor:
        if self.permutes:
            images = images.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(images, self.weight, stride=2).mean((2, 3))


def test_convolutions_that_are_no_modules_count_too() -> None:
    assert not channels_last_is_safe(_Functional(permutes=False), architecture())


def test_a_network_that_turns_to_channels_last_itself_is_refused_where_that_would_corrupt_memory() -> None:
    with pytest.raises(TrainingError, match=r"stride 2 with 3 input channels.*\.contiguous\(\)"):
        channels_last_is_safe(_Functional(permutes=True), architecture())
