"""The manifest of a bundle: what lies in the folder, where it came from and how well it was checked.

Every part refuses unknown fields: a later addition is a new version, or is optional and written only where it is used,
and an older reader names it in its error. Parts that have modules of their own can be imported from here too.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import from_json

from subspace_serve.bundle.checks import Calibration as Calibration
from subspace_serve.bundle.checks import Parity as Parity
from subspace_serve.bundle.checks import ReferenceName as ReferenceName
from subspace_serve.bundle.checks import Reliability as Reliability
from subspace_serve.bundle.checks import TemperatureFit as TemperatureFit
from subspace_serve.bundle.models import Ensemble as Ensemble
from subspace_serve.bundle.models import FusedGraph as FusedGraph
from subspace_serve.bundle.models import Point as Point
from subspace_serve.bundle.record import NAME_PATTERN as NAME_PATTERN
from subspace_serve.bundle.record import BundleFile as BundleFile
from subspace_serve.bundle.record import Count as Count
from subspace_serve.bundle.record import Name as Name
from subspace_serve.bundle.record import Record
from subspace_serve.bundle.record import Sha256 as Sha256
from subspace_serve.bundle.subspace_record import TRAINING as TRAINING
from subspace_serve.bundle.subspace_record import Domain as Domain
from subspace_serve.bundle.subspace_record import DomainImages as DomainImages
from subspace_serve.bundle.subspace_record import DynamicGraph as DynamicGraph
from subspace_serve.bundle.subspace_record import InterpolationError as InterpolationError
from subspace_serve.bundle.subspace_record import StatisticsRecord as StatisticsRecord
from subspace_serve.bundle.subspace_record import SubspaceRecord as SubspaceRecord
from subspace_serve.errors import BundleError
from subspace_serve.files import MANIFEST_FILE
from subspace_serve.space.ensemble import Aggregate as Aggregate
from subspace_serve.suggestions import did_you_mean

FORMAT: Literal["subspace-serve-bundle"] = "subspace-serve-bundle"
VERSION: Literal[2] = 2
_READ = (1, VERSION)

_LISTED = re.compile(r'"(?:scores|class_coverage|levels|max_probability|disagreement|mean_intensity)": \[[^\]]*\]')
"""Lists of many numbers, which stand on one line."""


class UnfinishedTraining(Record):
    """How far training had come when the run was exported before its end."""

    finished_epochs: Count
    planned_epochs: Count


class Source(Record):
    """The checkpoint that the points were collapsed from; `unfinished` when its training was not complete."""

    checkpoint_sha256: Sha256
    geometry: str
    architecture: dict[str, Any]
    unfinished: UnfinishedTraining | None = None

    _where_used = ("unfinished",)


class Preprocessing(Record):
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1]; the graph applies them itself."""

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]


class Input(Record):
    """The graph's input: uint8 NHWC pixels, or float32 NCHW pixels in [0, 1]."""

    name: str = "image"
    dtype: Literal["uint8", "float32"] = "uint8"
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    height: Count
    width: Count
    channels: Count
    preprocessing: Preprocessing

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's shape in this layout."""
        if self.layout == "NHWC":
            return (self.height, self.width, self.channels)
        return (self.channels, self.height, self.width)

    @model_validator(mode="after")
    def _fits(self) -> Input:
        if (self.dtype, self.layout) not in (("uint8", "NHWC"), ("float32", "NCHW")):
            raise ValueError(f"{self.dtype} {self.layout} is not served; give uint8 NHWC or float32 NCHW")
        if not len(self.preprocessing.mean) == len(self.preprocessing.std) == self.channels:
            raise ValueError(f"preprocessing must have {self.channels} means and deviations, one a channel")
        return self


class Onnx(Record):
    """How the graphs were made."""

    opset: Count
    exporter: str


class Manifest(Record):
    """The whole manifest. Write with `to_json`, read with `parse_manifest`."""

    format: Literal["subspace-serve-bundle"] = FORMAT
    version: Literal[1, 2] = VERSION
    created_by: str
    source: Source
    input: Input
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    points: Annotated[dict[Name, Point], Field(min_length=1)]
    ensembles: dict[Name, Ensemble] = Field(default_factory=dict)
    default: Name
    golden: BundleFile
    onnx: Onnx
    subspace: SubspaceRecord | None = None
    domains: dict[Name, Domain] = Field(default_factory=dict)
    gate: BundleFile | None = None
    """Labelled images and float points' top answers, on which the gates of points in fewer bits are repeated."""

    _where_used = ("gate",)

    @property
    def files(self) -> dict[str, str]:
        """Every file of the bundle but the manifest itself, with its SHA-256."""
        return {entry.file: entry.sha256 for entry in self._entries}

    @property
    def _entries(self) -> list[Point | BundleFile]:
        fused = [ensemble.fused for ensemble in self.ensembles.values() if ensemble.fused]
        others = [*fused, *(self.subspace.files if self.subspace else []), *([self.gate] if self.gate else [])]
        return [*self.points.values(), self.golden, *others]

    def to_json(self) -> str:
        """Return the manifest as indented JSON."""
        text = self.model_dump_json(indent=2)
        return _LISTED.sub(lambda found: " ".join(found[0].split()), text) + "\n"

    @model_validator(mode="after")
    def _fits(self) -> Manifest:
        files = [MANIFEST_FILE, *(entry.file for entry in self._entries)]
        if len(set(files)) != len(files):
            raise ValueError(f"each file may be named once, got {sorted(files)}")
        if both := sorted(self.points.keys() & self.ensembles.keys()):
            raise ValueError(f"{both[0]} is both a point and an ensemble")
        for name, ensemble in self.ensembles.items():
            if unknown := [member for member in ensemble.members if member not in self.points]:
                raise ValueError(f"ensemble {name} has the member {unknown[0]}, which is not a point")
        for name, point in self.points.items():
            if point.reduction is not None and (self.gate is None or not self._is_float(point.reduction.of)):
                raise ValueError(f"point {name} in {point.precision} needs its float point and the gate's images")
        for name, domain in self.domains.items():
            if self.subspace is None or domain.statistics not in self.subspace.statistics:
                raise ValueError(f"domain {name} has the statistics {domain.statistics}, which are not there")
        if self.version == 1 and (self.subspace or self.domains):
            raise ValueError("a manifest of version 1 has no subspace and no domains")
        if self.default not in self.points and self.default not in self.ensembles:
            raise ValueError(f"the default {self.default} is neither a point nor an ensemble")
        return self

    def _is_float(self, name: str) -> bool:
        return name in self.points and self.points[name].precision == "float32"


def parse_manifest(data: bytes | str, origin: str = MANIFEST_FILE) -> Manifest:
    """Parse and check a manifest; `origin` names it in messages.

    Raises `BundleError` for broken JSON, another format, a newer version, and unknown, missing or wrong fields.
    """
    try:
        document = from_json(data)
    except ValueError as error:
        raise BundleError(f"{origin} is not JSON ({error}); export the bundle again") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BundleError(f"{origin} is not a bundle's manifest: its format is not {FORMAT!r}")
    version = document.get("version")
    if version not in _READ or isinstance(version, bool):
        raise BundleError(
            f"{origin} has version {version!r} and this program reads versions {' and '.join(map(str, _READ))}; "
            "upgrade subspace-serve, or export the bundle again with this one"
        )
    try:
        return Manifest.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise BundleError(f"{origin} is not valid: {describe(error)}") from None


def describe(error: ValidationError, limit: int = 3, known: Collection[str] = ()) -> str:
    """Return pydantic's complaints as one line: `place: complaint; place: complaint`.

    An unknown field of the document itself comes with the nearest of the `known` ones.
    """
    items = error.errors(include_url=False, include_context=False, include_input=False)
    complaints = []
    for item in items[:limit]:
        place = ".".join(f"{part!s:.60}" for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
            hint = did_you_mean(str(item["loc"][0]), known)
            message += f" ({hint})" if hint else ""
        complaints.append(f"{place}: {message}" if place else message)
    more = len(items) - limit
    return "; ".join(complaints) + (f"; and {more} more" if more > 0 else "")
