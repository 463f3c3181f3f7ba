"""What a service serves: the answer of GET /models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias, TypeVar

import numpy as np

Place: TypeAlias = "float | tuple[float, ...]"
"""A place in the subspace: a number on a line or a curve, one number per endpoint on a simplex."""

_Kind = TypeVar("_Kind", "Model", "Subspace", "Domain", "InputFormat")


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
    """A point, at `alpha` of its subspace, or an ensemble of `members` with their `weights` (of any sum).

    `statistics` is the set that a point's BatchNorm uses: `training`, or a domain's. A `precision` below float32 is
    answered by the `float_point` where it loses too much on the server's processor.
    """

    name: str
    type: str
    temperature: float
    alpha: Place | None = None
    statistics: str | None = None
    coefficients: tuple[float, ...] = ()
    members: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    aggregate: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    precision: str = "float32"
    float_point: str | None = None

    @property
    def is_ensemble(self) -> bool:
        """Whether several points answer together."""
        return self.type == "ensemble"


@dataclass(frozen=True)
class Subspace:
    """The subspace that a server holds: the place in a request is rounded to multiples of `step`.

    `alpha` says in words what a place is; `statistics` are the sets that a network's BatchNorm can use.
    """

    geometry: str
    endpoints: int
    alpha: str
    step: float
    statistics: tuple[str, ...]


@dataclass(frozen=True)
class Domain:
    """Where a model runs, such as one camera: its `statistics` set, and its own network's place and temperature."""

    name: str
    statistics: str
    alpha: Place
    temperature: float


@dataclass(frozen=True)
class Catalogue:
    """The models by name, the `default` that answers when none is named, and what they all share.

    `sha256` is that of the bundle's manifest: it changes when another bundle is served. `subspace` is None where only
    the points answer, `domains` are by name; servers of earlier versions have neither.
    """

    default: str
    sha256: str
    models: Mapping[str, Model]
    labels: tuple[str, ...]
    input: InputFormat
    subspace: Subspace | None = None
    domains: Mapping[str, Domain] = field(default_factory=dict)

    def is_ensemble(self, name: str) -> bool:
        """Whether a name is an ensemble's; an unknown one is not."""
        return name in self.models and self.models[name].is_ensemble

    def point_of(self, domain: str) -> str | None:
        """Return the point that answers as a domain alone does; None where there is no such point or domain."""
        own = self.domains.get(domain)
        for name, model in self.models.items():
            if model.precision != "float32":  # a domain means the float point
                continue
            if own and (model.alpha, model.statistics) == (own.alpha, own.statistics):
                return name if model.temperature == own.temperature else None
        return None

    @classmethod
    def from_json(cls, document: Any) -> Catalogue:
        """Read the server's document. Raises `KeyError`, `TypeError` or `ValueError` for another one."""
        models = [_read(Model, entry) for entry in document["models"]]
        domains = [_read(Domain, entry) for entry in document.get("domains", ())]
        subspace = document.get("subspace")
        return cls(
            default=document["default"],
            sha256=document["bundle"]["sha256"],
            models={model.name: model for model in models},
            labels=tuple(document["labels"]),
            input=_read(InputFormat, document["input"]),
            subspace=_read(Subspace, subspace) if subspace else None,
            domains={domain.name: domain for domain in domains},
        )


def place_of(value: Any) -> Any:
    """Return a place from JSON, with a tuple instead of a list; a member's name, or None, as it is."""
    return tuple(value) if isinstance(value, list) else value


def _read(kind: type[_Kind], entry: Mapping[str, Any]) -> _Kind:
    """Return one of the document's entries, without what later servers may add to it."""
    names = [own.name for own in fields(kind)]
    return kind(**{name: place_of(entry[name]) for name in names if name in entry})
