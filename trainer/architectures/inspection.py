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
