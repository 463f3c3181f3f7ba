"""From an architecture to a network of torch."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

from subspace_serve.errors import ArchitectureError, SubspaceServeError
from subspace_serve.space.architecture import Architecture
from trainer.architectures import custom
from trainer.architectures.registry import find_builder


def build(architecture: Architecture) -> nn.Module:
    """Return a fresh network in train mode, initialised by torch's global generator.

    Its input is (N, channels, height, width) float, its output (N, classes) logits. A user's own function is imported:
    of an architecture that a file names, call `check_trusted` first.

    Raises:
        ArchitectureError: the name is unknown, or the network cannot be built for this input.
    """
    name = architecture.name
    builder = find_builder(name)
    try:
        model = builder(
            classes=architecture.classes,
            channels=architecture.channels,
            height=architecture.height,
            width=architecture.width,
            **architecture.arguments,
        )
    except SubspaceServeError:
        raise
    except Exception as error:  # a builder may be the user's own function, and fail in any way
        expected = f"; it is called as {custom.SIGNATURE}" if architecture.is_custom else ""
        raise ArchitectureError(
            f"{name!r} cannot be built for {architecture.channels}x{architecture.height}x{architecture.width} images, "
            f"{architecture.classes} classes and arguments {architecture.arguments}: {type(error).__name__}: {error}"
            f"{expected}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ArchitectureError(f"{name!r} must return a torch.nn.Module; found {type(model).__name__}.")
    if lazy := next((parameter for parameter, tensor in model.named_parameters() if is_lazy(tensor)), None):
        raise ArchitectureError(
            f"{name!r} has a lazy parameter, {lazy}, whose size is not known yet; give the layer its size, or run two "
            "images through the network before it is returned."
        )
    return model


def check_trusted(architecture: Architecture, named: str | None) -> None:
    """Check that an architecture that a file names may be built: a file alone never makes the program import anything.

    Args:
        architecture: as the file has it.
        named: the one `package.module:function` that the user agreed to import.

    Raises:
        ArchitectureError: it would import a function that the user did not name.
    """
    if architecture.is_custom and architecture.name != named:
        raise ArchitectureError(
            f"The file names the architecture {architecture.name!r}, which would import code; "
            f"if you trust it, say so with `--arch {architecture.name}`."
        )
