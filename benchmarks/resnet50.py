"""ResNet-50 (He et al. 2016; the stride on the 3x3 convolution), for machines without torchvision."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

EXPANSION = 4


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.convolutions(features) + self.shortcut(features), inplace=True)


def resnet50(*, classes: int, channels: int, height: int, width: int, first: int = 64) -> nn.Module:
    """Return the network, `first` channels wide at its beginning; average pooling takes any height and width."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, first, 7, 2, padding=3, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, padding=1),
    ]
    inputs = first
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, first * 2**stage, 2 if stage and not block else 1))
            inputs = EXPANSION * first * 2**stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def thin_resnet50(*, classes: int, channels: int, height: int, width: int) -> nn.Module:
    """Return a network of the same layers with an eighth of the channels."""
    return resnet50(classes=classes, channels=channels, height=height, width=width, first=8)
