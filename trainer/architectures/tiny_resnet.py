"""The Tiny-ImageNet ResNets of the paper (appendix D; Tanaka et al. 2020): a stem for 64x64 images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from trainer.architectures.cresnet import kaiming_normal

NAMES = ("tiny-resnet18", "tiny-resnet50")


def find_builder(name: str) -> Callable[..., nn.Module] | None:
    """The builder of `tiny-resnet18` or `tiny-resnet50`, or None for another name."""
    return partial(_build, name) if name in NAMES else None


def _build(name: str, /, *, classes: int, channels: int, height: int, width: int) -> nn.Module:
    """torchvision's ResNet with a 3x3 convolution of stride 1 in front and no max pooling."""
    from torchvision.models import resnet18, resnet50

    del height, width  # average pooling takes any size
    model = (resnet18 if name == "tiny-resnet18" else resnet50)(weights=None, num_classes=classes)
    model.conv1 = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model.apply(kaiming_normal)
