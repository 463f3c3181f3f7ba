"""The manifest of a bundle: what lies in the folder, where it came from and how well it was checked.

Every model refuses unknown fields: a later addition is a new version, or is optional and written only where it is
used, and an older reader names it in its error.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import from_json

from subspace_serve.bundle.abstention import Abstention
from subspace_serve.bundle.drift import DriftReference
from subspace_serve.bundle.prediction_sets import Sets
from subspace_serve.bundle.record import Count as Count
from subspace_serve.bundle.record import Record
from subspace_serve.bundle.reduced import GraphParity, Precision, Reduction
from subspace_serve.errors import BundleError
from subspace_serve.files import MANIFEST_FILE
from subspace_serve.space.ensemble import Aggregate as Aggregate
from subspace_serve.suggestions import did_you_mean

FORMAT: Literal["subspace-serve-bundle"] = "subspace-serve-bundle"
VERSION: Literal[2] = 2
_READ = (1, VERSION)
TRAINING = "training"
"""The statistics set of training images, which every subspace has."""

_LISTED = re.compile(r'"(?:scores|class_coverage|levels|max_probability|disagreement|mean_intensity)": \[[^\]]*\]')
"""Lists of many numbers, which stand on one line."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]
# A plain name: a manifest can point nowhere but into its own folder.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Temperature = Annotated[float, Field(gt=0)]


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


class Calibration(Record):
    """The data that BatchNorm's statistics come from.

    `count` and `batch_size` are None where they are unknown, as for running averages that came with imported weights.
    """

    data: str
    count: Count | None
    batch_size: Count | None
    seed: int | None


ReferenceName = Literal["torch", "training", "skeleton"]


class Parity(Record):
    """How far the graph's logits on ONNX Runtime were from the network's at export.

    `reference` is None when torch itself computed the network's. Otherwise the skeleton did: `training` when it had
    first reproduced the answers that torch left beside the run at training, `skeleton` when there were none to
    reproduce, as for a domain's point. A point in fp16 or int8 is compared with its float point and may differ by the
    largest logit, which only a broken graph exceeds: its gate says how good it is.
    """

    provider: str
    max_abs_diff: Annotated[float, Field(ge=0)]
    top1_flips: Annotated[int, Field(ge=0)]
    tolerance: Annotated[float, Field(gt=0)]
    reference: ReferenceName | None = None

    _where_used = ("reference",)


class Reliability(Record):
    """Negative log-likelihood in nats and expected calibration error in [0, 1]."""

    nll: Annotated[float, Field(ge=0)]
    ece: Annotated[float, Field(ge=0, le=1)]


class TemperatureFit(Record):
    """How a temperature was fitted, and what it did to images that it was not fitted on.

    It was fitted on `count` images of `data`; `reported_on` others were measured at temperature 1 (`before`) and at the
    temperature (`after`); `seed` divided them. `at_bound` says that the images did not determine the temperature: it is
    1 when they called for ever more confident answers, and the highest allowed when for ever less confident ones.
    """

    data: str
    count: Count
    seed: int
    reported_on: Count
    before: Reliability
    after: Reliability
    at_bound: bool = False


class BundleFile(Record):
    """A file of the bundle."""

    file: FileName
    sha256: Sha256


class FusedGraph(BundleFile):
    """A whole ensemble as one ONNX file: members, average and temperature."""

    parity: GraphParity


class DynamicGraph(BundleFile):
    """The subspace as one ONNX file with the inputs `image` and `alpha`, float32 (`size`,).

    It has the statistics of training images; `parity` is over `places` places between knots.
    """

    size: Count
    places: Count
    parity: GraphParity


class _Model(Record):
    """What points and ensembles have in common.

    The answer's probabilities p become p^(1 / temperature), normalised; `metrics` are measured on the result, `sets`
    and `abstention` are what is promised of it, and `drift` is what later answers are compared with.
    """

    sets: Sets | None = None
    abstention: Abstention | None = None
    drift: DriftReference | None = None

    _where_used: ClassVar[tuple[str, ...]] = ("temperature_fit", "sets", "abstention", "drift")


class Point(_Model):
    """One collapsed network. `calibration` is None for a network without BatchNorm.

    `statistics` is the statistics set of the images that its BatchNorm statistics come from: `training`, or a domain's;
    None for other images. A point in fp16 or int8 stands beside its float point, and `reduction` says how it was made.
    """

    alpha: float | tuple[float, ...] | None
    statistics: Name | None = None
    coefficients: tuple[float, ...]
    file: FileName
    sha256: Sha256
    calibration: Calibration | None
    parity: Parity
    metrics: dict[str, float] = Field(default_factory=dict)
    temperature: Temperature = 1.0
    temperature_fit: TemperatureFit | None = None
    precision: Precision = "float32"
    reduction: Reduction | None = None

    _where_used = (*_Model._where_used, "precision", "reduction")

    @model_validator(mode="after")
    def _fits(self) -> Point:
        if (self.precision == "float32") != (self.reduction is None):
            raise ValueError("a point in fp16 or int8, and no other, says how it was reduced")
        return self


class Ensemble(_Model):
    """Points whose outputs are averaged; the weights need not sum to 1. The temperature is the average's own.

    `fused` is the same as one ONNX file, for other runtimes.
    """

    members: Annotated[tuple[Name, ...], Field(min_length=1)]
    weights: tuple[Annotated[float, Field(ge=0)], ...]
    aggregate: Aggregate = "probabilities"
    temperature: Temperature = 1.0
    temperature_fit: TemperatureFit | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    fused: FusedGraph | None = None

    _where_used = (*_Model._where_used, "fused")

    @model_validator(mode="after")
    def _fits(self) -> Ensemble:
        if len(set(self.members)) != len(self.members):
            raise ValueError(f"members must differ, got {list(self.members)}")
        if len(self.weights) != len(self.members):
            raise ValueError(f"got {len(self.weights)} weights for {len(self.members)} members")
        if not sum(self.weights) > 0:
            raise ValueError("at least one weight must be positive")
        return self


class InterpolationError(Record):
    """How far answers with interpolated statistics were from those with exact ones, at places between knots.

    The worst over `places` places, on `images` real images: the root mean square difference of the `logits`, the share
    of images whose top answer `flips`, and with labels the absolute difference in `accuracy`.
    """

    places: Count
    images: Count
    logits: Annotated[float, Field(ge=0)]
    flips: Annotated[float, Field(ge=0, le=1)]
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None


class StatisticsRecord(BundleFile):
    """BatchNorm statistics at the knots of the subspace, for one set of images.

    `degree` is that of the polynomials that interpolate variances; `prior`, for a domain, is how many images the
    training statistics counted as when they were mixed in.
    """

    knots: Count
    degree: Literal[1, 2]
    calibration: Calibration
    prior: Annotated[float, Field(ge=0)] | None = None
    error: InterpolationError | None = None


class SubspaceRecord(Record):
    """The subspace itself: its graph, its endpoints, and statistics by the name of the images they were computed on."""

    geometry: str
    skeleton: BundleFile
    endpoints: BundleFile
    statistics: dict[Name, StatisticsRecord]
    dynamic: DynamicGraph | None = None

    _where_used = ("dynamic",)

    @property
    def files(self) -> list[BundleFile]:
        """Every file of the subspace."""
        return [self.skeleton, self.endpoints, *self.statistics.values(), *([self.dynamic] if self.dynamic else [])]

    @model_validator(mode="after")
    def _fits(self) -> SubspaceRecord:
        if TRAINING not in self.statistics:
            raise ValueError(f"the subspace has no statistics of the name {TRAINING}")
        return self


class DomainImages(Record):
    """Unlabelled images of a domain."""

    data: str
    count: Count
    fingerprint: str


class Domain(Record):
    """Where a model runs, such as one camera: its statistics set, and its alpha and temperature.

    `chosen` is what `select` recorded where labels chose alpha.
    """

    statistics: Name
    alpha: float | tuple[float, ...]
    temperature: Temperature = 1.0
    images: DomainImages
    chosen: dict[str, Any] | None = None


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
