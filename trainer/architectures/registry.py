"""From an architecture's name to the function that builds it."""

from __future__ import annotations

from subspace_serve.errors import ArchitectureError
from subspace_serve.space.architecture import is_custom
from subspace_serve.suggestions import did_you_mean
from trainer.architectures import cresnet, custom, tiny_resnet, torchvision_models
from trainer.architectures.builder import Builder


def architecture_names() -> tuple[str, ...]:
    """Every built-in name; other depths and widths of `cresnet` are understood too."""
    return (*cresnet.NAMES, *tiny_resnet.NAMES, *torchvision_models.names())


def find_builder(name: str) -> Builder:
    """The function that builds `name`; a `package.module:function` is imported.

    Raises:
        ArchitectureError: the name is unknown (the message gives near matches), or cannot be imported.
    """
    if is_custom(name):
        return custom.import_builder(name)
    for family in (cresnet, tiny_resnet, torchvision_models):
        builder = family.find_builder(name)
        if builder is not None:
            return builder
    hint = did_you_mean(name, architecture_names(), 3) or "try cresnet20, tiny-resnet18 or resnet18;"
    raise ArchitectureError(
        f"Unknown architecture {name!r}; {hint} "
        "Names are cresnet{6n+2}[-width], tiny-resnet18, tiny-resnet50, torchvision's classifiers, "
        "or package.module:function for your own."
    )
