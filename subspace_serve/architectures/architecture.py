"""A network by name and size, as it is built, written to a file and read from one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import nn

from subspace_serve.architectures import custom
from subspace_serve.architectures.registry import find_builder
from subspace_serve.errors import ArchitectureError, SubspaceServeError


@dataclass(frozen=True)
class Architecture:
    """A network by name, with the size of its input and output.

    Attributes:
        name: `cresnet20-64`, `tiny-resnet18`, a torchvision classifier, or `package.module:function`.
        classes: number of logits.
        channels: channels of an input image.
        height: of an input image, in pixels.
        width: of an input image, in pixels.
        arguments: further keyword arguments of the builder, as JSON values, such as `{"dropout": 0.1}`.
    """

    name: str
    classes: int
    channels: int
    height: int
    width: int
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ArchitectureError(f"An architecture's name must be a string; found {self.name!r}.")
        sizes = {
            "classes": self.classes,
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
        }
        for key, size in sizes.items():
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ArchitectureError(
                    f"{key} of architecture {self.name!r} must be a positive integer; found {size!r}."
                )
        _check_arguments(self.name, self.arguments)

    def build(self) -> nn.Module:
        """A fresh network in train mode, initialised by torch's global generator.

        Its input is (N, channels, height, width) float, its output (N, classes) logits.

        Raises:
            ArchitectureError: the name is unknown, or the network cannot be built for this input.
        """
        builder = find_builder(self.name)
        try:
            model = builder(
                classes=self.classes,
                channels=self.channels,
                height=self.height,
                width=self.width,
                **self.arguments,
            )
        except SubspaceServeError:
            raise
        except Exception as error:  # a builder may be the user's own function, and fail in any way
            expected = f"; it is called as {custom.SIGNATURE}" if custom.is_custom(self.name) else ""
            raise ArchitectureError(
                f"{self.name!r} cannot be built for {self.channels}x{self.height}x{self.width} images, "
                f"{self.classes} classes and arguments {self.arguments}: {type(error).__name__}: {error}{expected}"
            ) from error
        if not isinstance(model, nn.Module):
            raise ArchitectureError(f"{self.name!r} must return a torch.nn.Module; found {type(model).__name__}.")
        return model

    def to_json(self) -> dict[str, Any]:
        """The JSON document that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], allow_import: str | None = None) -> Architecture:
        """Read what `to_json` wrote; nothing is imported on behalf of a file.

        Args:
            document: the JSON document.
            allow_import: the one `package.module:function` that the user agreed to import.

        Raises:
            ArchitectureError: a key is missing or unknown, a value is of the wrong type, the name is
                unknown, or it would import a function that the user did not name.
        """
        expected = {f.name for f in fields(cls)}
        if not isinstance(document, Mapping) or set(document) != expected:
            found = sorted(document) if isinstance(document, Mapping) else type(document).__name__
            raise ArchitectureError(f"An architecture's document must have the keys {sorted(expected)}; found {found}.")
        architecture = cls(**document)
        if not custom.is_custom(architecture.name):
            find_builder(architecture.name)
        elif architecture.name != allow_import:
            raise ArchitectureError(
                f"The file names the architecture {architecture.name!r}, which would import code; "
                f"if you trust it, say so with `--arch {architecture.name}`."
            )
        return architecture


def resolve_architecture(
    name: str,
    *,
    classes: int,
    channels: int,
    height: int,
    width: int,
    arguments: Mapping[str, Any] | None = None,
) -> Architecture:
    """The architecture that a user asked for; a `package.module:function` is imported to check it.

    Raises:
        ArchitectureError: the name is unknown (the message gives near matches), or cannot be imported.
    """
    find_builder(name)
    return Architecture(name, classes, channels, height, width, dict(arguments or {}))


def _check_arguments(name: str, arguments: object) -> None:
    """Refuse arguments that JSON would not give back as they are."""
    try:
        faithful = isinstance(arguments, dict) and (json.loads(json.dumps(arguments, allow_nan=False)) == arguments)
    except (TypeError, ValueError):
        faithful = False
    if not faithful:
        raise ArchitectureError(
            f"The arguments of architecture {name!r} must be a dictionary of JSON values; found {arguments!r}."
        )
