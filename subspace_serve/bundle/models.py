"""The points and ensembles of a manifest."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from subspace_serve.bundle.abstention import Abstention
from subspace_serve.bundle.checks import Calibration, Parity, TemperatureFit
from subspace_serve.bundle.drift import DriftReference
from subspace_serve.bundle.prediction_sets import Sets
from subspace_serve.bundle.record import BundleFile, FileName, Name, Record, Sha256, Temperature
from subspace_serve.bundle.reduced import GraphParity, Precision, Reduction
from subspace_serve.space.ensemble import Aggregate


class FusedGraph(BundleFile):
    """A whole ensemble as one ONNX file: members, average and temperature."""

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
