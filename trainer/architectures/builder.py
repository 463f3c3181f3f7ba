"""What every family of architectures offers."""

from __future__ import annotations

from typing import Protocol

from torch import nn


class Builder(Protocol):
    """Makes a freshly initialised network from (N, channels, height, width) to (N, classes) logits."""

    def __call__(self, *, classes: int, channels: int, height: int, width: int, **arguments: object) -> nn.Module: ...
