"""From an architecture's name to the function that builds it."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from subspace_serve.errors import ArchitectureError
from subspace_serve.space.architecture import is_custom
from subspace_serve.suggestions import did_you_mean
from trainer.architectures import cresnet, custom, timm_models, tiny_resnet, torchvision_models


def architecture_names() -> tuple[str, ...]:
    """Every built-in name; other depths and widths of `cresnet` are understood too."""
    return (*cresnet.NAMES, *tiny_resnet.NAMES, *torchvision_models.names())


def find_builder(name: str) -> Callable[..., nn.Module]:
    """The function that builds `name`; a `package.module:function` is imported.

    It takes `classes`, `channels`, `height`, `width` and the architecture's own arguments by name, and makes a freshly
    initialised network from (N, channels, height, width) to (N, classes) logits.

    Raises:
        ArchitectureError: the name is unknown (the message gives near matches), or cannot be imported.
    """
    if is_custom(name):
        return custom.import_builder(name)
    for family in (cresnet, tiny_resnet, timm_models, torchvision_models):
        builder = family.find_builder(name)
        if builder is not None:
            return builder
    hint = did_you_mean(name, architecture_names(), 3) or "try cresnet20, tiny-resnet18 or resnet18;"
    raise ArchitectureError(
        f"Unknown architecture {name!r}; {hint} "
        "Names are cresnet{6n+2}[-width], tiny-resnet18, tiny-resnet50, torchvision's classifiers, "
        "timm's as timm/NAME, or package.module:function for your own."
    )
