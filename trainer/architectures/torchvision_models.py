"""Every torchvision classifier by its name, adapted to the data's channels, classes and image size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from subspace_serve.errors import ArchitectureError

# Weights would be fetched, and a file must not ask for that; the rest is set here.
_RESERVED = frozenset({"weights", "pretrained", "progress", "num_classes"})


def names() -> tuple[str, ...]:
    """The names of torchvision's classifiers."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


def find_builder(name: str) -> Callable[..., nn.Module] | None:
    """The builder of a torchvision classifier, or None for an unknown name."""
    return partial(_build, name) if name in names() else None


def recorded(name: str) -> tuple[Sequence[float], Sequence[float], int, Sequence[str]] | None:
    """Return mean, standard deviation, image side and labels of published weights, as torchvision records them."""
    from torchvision.models import get_model_weights

    if name not in names():
        return None
    weights = get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    transform = weights.transforms()
    return transform.mean, transform.std, transform.crop_size[0], weights.meta["categories"]


def _build(name: str, /, *, classes: int, channels: int, height: int, width: int, **arguments: Any) -> nn.Module:
    from torchvision.models import get_model

    fitting = _fitting_arguments(name, height, width)
    refused = sorted((_RESERVED | fitting.keys()).intersection(arguments))
    if refused:
        raise ArchitectureError(
            f"{name!r} does not take {', '.join(refused)} as an argument; it starts from random weights, "
            "and the data set gives the classes and the image size."
        )
    model = get_model(name, weights=None, num_classes=classes, **fitting, **arguments)
    _adapt_channels(model, channels)
    return model


def _fitting_arguments(name: str, height: int, width: int) -> dict[str, Any]:
    """Arguments that some families need, for an image size and for an output that is one tensor."""
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "transform_input": False, "init_weights": True}
    if name.startswith("vit_"):
        if height != width:
            raise ArchitectureError(
                f"{name!r} takes square images; found {height}x{width}; choose another architecture or crop."
            )
        return {"image_size": height}
    if name.startswith("maxvit_"):
        return {"input_size": (height, width)}
    return {}


def _adapt_channels(model: nn.Module, channels: int) -> None:
    """Let the first convolution take `channels`, its weight drawn anew with the spread it had."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    if first.in_channels == channels:
        return
    weight = torch.empty(first.out_channels, channels, *first.kernel_size)
    first.in_channels = channels
    first.weight = nn.Parameter(weight.normal_(std=first.weight.std().item()))
