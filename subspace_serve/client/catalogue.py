"""What a service serves: the answer of GET /models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class InputFormat:
    """What the graphs take: uint8 (height, width, channels), or float32 (channels, height, width) in [0, 1]."""

    name: str
    dtype: str
    layout: str
    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        if self.layout == "NHWC":
            return (self.height, self.width, self.channels)
        return (self.channels, self.height, self.width)

    @property
    def wire_type(self) -> np.dtype[Any]:
        """The type of the pixels in a binary tensor, which is little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")


@dataclass(frozen=True)
class Model:
    """A point, at `alpha` of its subspace, or an ensemble of `members` with their `weights` (of any sum)."""

    name: str
    type: str
    temperature: float
    alpha: float | tuple[float, ...] | None = None
    coefficients: tuple[float, ...] = ()
    members: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    aggregate: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_ensemble(self) -> bool:
        """Whether several points answer together."""
        return self.type == "ensemble"


@dataclass(frozen=True)
class Catalogue:
    """The models by name, the `default` that answers when none is named, and what they all share.

    `sha256` is that of the bundle's manifest: it changes when another bundle is served.
    """

    default: str
    sha256: str
    models: Mapping[str, Model]
    labels: tuple[str, ...]
    input: InputFormat

    def is_ensemble(self, name: str) -> bool:
        """Whether a name is an ensemble's; an unknown one is not."""
        return name in self.models and self.models[name].is_ensemble

    @classmethod
    def from_json(cls, document: Any) -> Catalogue:
        """Read the server's document. Raises `KeyError`, `TypeError` or `ValueError` for another one."""
        models = [_model(entry) for entry in document["models"]]
        input = document["input"]
        return cls(
            default=document["default"],
            sha256=document["bundle"]["sha256"],
            models={model.name: model for model in models},
            labels=tuple(document["labels"]),
            input=InputFormat(**{name: input[name] for name in InputFormat.__dataclass_fields__}),
        )


def _model(entry: Mapping[str, Any]) -> Model:
    alpha = entry.get("alpha")
    return Model(
        name=entry["name"],
        type=entry["type"],
        temperature=float(entry["temperature"]),
        alpha=tuple(alpha) if isinstance(alpha, list) else alpha,
        coefficients=tuple(entry.get("coefficients", ())),
        members=tuple(entry.get("members", ())),
        weights=tuple(entry.get("weights", ())),
        aggregate=entry.get("aggregate"),
        metrics=dict(entry.get("metrics") or {}),
    )
