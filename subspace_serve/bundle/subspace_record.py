"""The subspace of a manifest: its graphs, its statistics at knots, and the domains that it was adapted to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from subspace_serve.bundle.checks import Calibration
from subspace_serve.bundle.record import BundleFile, Count, Name, Record, Temperature, Unit
from subspace_serve.bundle.reduced import GraphParity

TRAINING = "training"
"""The statistics set of training images, which every subspace has."""


class DynamicGraph(BundleFile):
    """The subspace as one ONNX file with the inputs `image` and `alpha`, float32 (`size`,).

    It has the statistics of training images; `parity` is over `places` places between knots.
    """

    size: Count
    places: Count
    parity: GraphParity


class InterpolationError(Record):
    """How far answers with interpolated statistics were from those with exact ones, at places between knots.

    The worst over `places` places, on `images` real images: the root mean square difference of the `logits`, the share
    of images whose top answer `flips`, and with labels the absolute difference in `accuracy`.
    """

    places: Count
    images: Count
    logits: Annotated[float, Field(ge=0)]
    flips: Unit
    accuracy: Unit | None = None


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
