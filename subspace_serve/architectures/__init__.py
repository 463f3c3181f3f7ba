"""Architectures by name: `cresnet20-64`, `tiny-resnet18`, torchvision's, and `package.module:function`."""

from __future__ import annotations

from subspace_serve.architectures.architecture import Architecture, resolve_architecture
from subspace_serve.architectures.inspection import check_output, penultimate
from subspace_serve.architectures.registry import architecture_names

__all__ = ["Architecture", "architecture_names", "check_output", "penultimate", "resolve_architecture"]
