"""The memory order in which a network can be trained.

Channels-last is about a fifth faster on a CPU, but there oneDNN (3.12, as in torch 2.14.1) can write outside its
memory: in the backward pass of a strided 1x1 convolution it copies whole blocks of input channels, 8 with AVX2 and 16
with AVX-512, into a workspace that has room only for the channels there are (uxlfoundation/oneDNN#6035). See
docs/memory-order.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from subspace_serve.errors import TrainingError
from subspace_serve.space.architecture import Architecture
from trainer.architectures import check_output

BLOCK = 16
"""Input channels that are a multiple of this fill the blocks of every processor. Only counts below it went wrong in
measurements; the check asks for a multiple all the same."""


def channels_last_is_safe(model: nn.Module, architecture: Architecture) -> bool:
    """Run two black images through a network in contiguous order; return whether channels-last would be safe too.

    Raises:
        ArchitectureError: the network does not fit its input.
        TrainingError: contiguous order is not safe either, since the network itself converts to channels-last.
    """
    with _Convolutions() as convolutions:
        check_output(model, architecture)
    for layer in convolutions.endangered:
        if layer.channels_last:
            raise TrainingError(
                f"the network gives its 1x1 convolution of stride {layer.stride} with {layer.channels} input channels "
                "images in channels-last order, which torch cannot train on a CPU without corrupting memory; call "
                f".contiguous() on that layer's input, or give it a multiple of {BLOCK} channels"
            )
    return not convolutions.endangered


class _Layer(NamedTuple):
    """A convolution that is not safe in channels-last order."""

    channels: int
    stride: int
    channels_last: bool


class _Convolutions(TorchDispatchMode):
    """Notes the convolutions of a pass, by modules and by functions alike, that are not safe in channels-last order."""

    def __init__(self) -> None:
        super().__init__()
        self.endangered: list[_Layer] = []

    def __torch_dispatch__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            images, weight, _, stride = args[:4]
            pointwise = all(size == 1 for size in weight.shape[2:])
            # A weight holds the channels of one group.
            if pointwise and max(stride) > 1 and weight.shape[1] % BLOCK:
                # What torch itself goes by; `is_contiguous` cannot tell the orders apart when there is one channel.
                self.endangered.append(_Layer(images.shape[1], max(stride), images.stride(1) == 1))
        return func(*args, **(kwargs or {}))
