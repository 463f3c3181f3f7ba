"""Questions about any network: does its output fit, and where are its penultimate features?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from subspace_serve.errors import ArchitectureError
from subspace_serve.space.architecture import Architecture


def check_output(model: nn.Module, architecture: Architecture) -> None:
    """Run two black images through `model` in eval mode, leaving its modes as they were.

    Raises:
        ArchitectureError: the network fails on such images, or its output is not (2, classes) logits.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    size = (architecture.channels, architecture.height, architecture.width)
    images = torch.zeros(2, *size, device=like.device, dtype=like.dtype)
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            output = model.eval()(images)
    except Exception as error:  # the network may be the user's own, and fail in any way
        raise ArchitectureError(
            f"The network fails on images of {'x'.join(map(str, size))}: {type(error).__name__}: {error}; "
            "choose an architecture made for this size, or resize the images."
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if found != (2, architecture.classes):
        raise ArchitectureError(
            f"The network must return logits of shape (2, {architecture.classes}) for two images of "
            f"{'x'.join(map(str, size))}; found {found}."
        )


def check_training(model: nn.Module, architecture: Architecture, count: int) -> None:
    """Run so many black images through `model` in train mode, in which it is left; its buffers are restored.

    Args:
        model: the network.
        architecture: of the network.
        count: how many images the smallest group has that it is trained on.

    Raises:
        ArchitectureError: the network fails on such a group, or its output is not (count, classes) logits.
    """
    size = (count, architecture.channels, architecture.height, architecture.width)
    device = next((parameter.device for parameter in model.parameters()), None)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    group = f"a group of {count} image{'s' * (count != 1)} of {'x'.join(map(str, size[1:]))}"
    forked = [device] if device is not None and device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=forked):  # dropout draws, and no later number may change
            output = model.train()(torch.zeros(size, device=device))
    except Exception as error:  # the network may be the user's own, and fail in any way
        raise ArchitectureError(
            f"{architecture.name} fails in train mode on {group} ({type(error).__name__}: {error}); if the group is "
            "too small, a larger --batch-size or fewer --samples make it larger"
        ) from error
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if found != (count, architecture.classes):
        raise ArchitectureError(
            f"{architecture.name} must return logits of shape ({count}, {architecture.classes}) in train mode, too, "
            f"for {group}; found {found}"
        )


def penultimate(model: nn.Module) -> nn.Module:
    """The classifying layer, whose *input* is the penultimate features (for a forward pre-hook).

    It is the last linear layer or 1x1 convolution in module order. Before a linear layer the features are
    (N, features), before a convolution (N, features, height, width).

    Raises:
        ArchitectureError: there is no such layer.
    """
    for module in reversed(list(model.modules())):
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):
            return module
    raise ArchitectureError(
        f"{type(model).__name__} has no linear layer or 1x1 convolution to take penultimate features from; "
        "train without the feature-similarity term."
    )
