"""Architectures by name: `cresnet20-64`, `tiny-resnet18`, torchvision's, and `package.module:function`."""

from __future__ import annotations

from trainer.architectures.building import build, check_trusted
from trainer.architectures.inspection import check_output, check_training, penultimate
from trainer.architectures.registry import architecture_names, find_builder

__all__ = [
    "architecture_names",
    "build",
    "check_output",
    "check_training",
    "check_trusted",
    "find_builder",
    "penultimate",
]
