"""The CIFAR ResNets of the paper, `cresnet{6n+2}[-width]`: those of open_lth (He et al. 2016)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from subspace_serve.errors import ArchitectureError

NAMES = ("cresnet8", "cresnet20", "cresnet32", "cresnet56")
DEFAULT_WIDTH = 16

_PATTERN = re.compile(r"cresnet(?P<depth>\d{1,4})(?:-(?P<width>\d{1,4}))?")


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a strided 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, features: Tensor) -> Tensor:
        residual = F.relu(self.bn1(self.conv1(features)), inplace=True)
        residual = self.bn2(self.conv2(residual))
        return F.relu(residual + self.shortcut(features), inplace=True)


class CResNet(nn.Module):
    """A convolution, three stages of residual blocks at widths w, 2w and 4w, average pooling, a linear layer.

    Input (N, channels, height, width), any height and width; output (N, classes) logits. Parameters are
    named as in open_lth.
    """

    def __init__(
        self, *, blocks_per_stage: int, base_width: int, classes: int, channels: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, base_width, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(base_width)
        blocks = []
        inputs = base_width
        for stage in range(3):
            outputs = base_width * 2**stage
            for index in range(blocks_per_stage):
                blocks.append(Block(inputs, outputs, stride=2 if stage > 0 and index == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, classes)
        self.apply(kaiming_normal)

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.bn(self.conv(images)), inplace=True)
        features = self.blocks(features).mean(dim=(2, 3))
        return self.fc(self.dropout(features))


def kaiming_normal(module: nn.Module) -> None:
    """Draw a convolution's or linear layer's weight from N(0, 2 / fan-in); for `nn.Module.apply`."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight)


def find_builder(name: str) -> Callable[..., nn.Module] | None:
    """The builder of `cresnet{depth}[-width]`, or None for a name of another family.

    Raises:
        ArchitectureError: the depth is not 6n + 2 with n at least 1, or the width is 0.
    """
    match = _PATTERN.fullmatch(name)
    if match is None:
        return None
    depth, width = int(match["depth"]), int(match["width"] or DEFAULT_WIDTH)
    if depth < 8 or (depth - 2) % 6:
        nearest = max(8, 6 * round((depth - 2) / 6) + 2)
        raise ArchitectureError(
            f"The depth of {name!r} must be 6n + 2; found {depth}; the nearest is 'cresnet{nearest}'."
        )
    if width == 0:
        raise ArchitectureError(f"The width of {name!r} is 0; give at least 1, as in 'cresnet{depth}-16'.")
    return partial(_build, (depth - 2) // 6, width)


def _build(blocks_per_stage: int, base_width: int, /, *, height: int, width: int, **arguments: Any) -> nn.Module:
    del height, width  # average pooling takes any size
    return CResNet(blocks_per_stage=blocks_per_stage, base_width=base_width, **arguments)
