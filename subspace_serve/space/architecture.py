"""The description of a network by name and size that is written to files; `trainer.architectures` builds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from subspace_serve.errors import ArchitectureError


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

    Raises:
        ArchitectureError: a value is of the wrong type.
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

    @property
    def is_custom(self) -> bool:
        """Whether building it imports the user's own code."""
        return is_custom(self.name)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Architecture:
        """Read what `to_json` wrote.

        Raises:
            ArchitectureError: a key is missing or unknown, or a value is of the wrong type.
        """
        expected = {f.name for f in fields(cls)}
        if not isinstance(document, Mapping) or set(document) != expected:
            found = sorted(document) if isinstance(document, Mapping) else type(document).__name__
            raise ArchitectureError(f"An architecture's document must have the keys {sorted(expected)}; found {found}.")
        return cls(**document)


def is_custom(name: str) -> bool:
    """Return whether building an architecture of this name imports the user's own code."""
    return ":" in name


def _check_arguments(name: str, arguments: object) -> None:
    """Refuse arguments that would not survive a round trip through JSON."""
    try:
        faithful = isinstance(arguments, dict) and (json.loads(json.dumps(arguments, allow_nan=False)) == arguments)
    except (TypeError, ValueError):
        faithful = False
    if not faithful:
        raise ArchitectureError(
            f"The arguments of architecture {name!r} must be a dictionary of JSON values; found {arguments!r}."
        )
