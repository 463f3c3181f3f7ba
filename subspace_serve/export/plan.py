"""What is to be exported: which points and ensembles of which subspace, and the images that each needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from subspace_serve.bundle.writer import OWN_GRAPHS
from subspace_serve.data import Images, Preprocessing, permutation
from subspace_serve.errors import ExportError
from subspace_serve.export.parity import THE_SKELETON, Reference
from subspace_serve.measure.conformal import SetsData
from subspace_serve.measure.networks import StatisticsSource, check_labels
from subspace_serve.measure.temperature import TemperatureData
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.network.network import Network
from subspace_serve.network.reduced import Precision, check_tools
from subspace_serve.network.served import InputType
from subspace_serve.space.alpha import Request
from subspace_serve.space.ensemble import Ensemble
from subspace_serve.space.place import Alpha
from subspace_serve.space.subspace import Subspace

REPEATED = 1000
"""How many of a gate's images go into the bundle, at most."""


@dataclass(frozen=True)
class Origin:
    """The trained subspace that points are exported from.

    Attributes:
        subspace: where the points lie.
        network: the subspace on ONNX Runtime.
        preprocessing: the normalisation that it was trained with.
        labels: the classes' names.
        checkpoint_sha256: of the checkpoint's file, for the record.
        examples: real images for the comparison and for the bundle's golden answers.
        reference: what the graphs are compared with.
        checkpoint: the checkpoint's file, which goes into a bundle with the subspace; None to export points only.
    """

    subspace: Subspace
    network: Network
    preprocessing: Preprocessing
    labels: Sequence[str]
    checkpoint_sha256: str
    examples: Images
    reference: Reference = THE_SKELETON
    checkpoint: Path | None = None


@dataclass(frozen=True, eq=False)
class GateData:
    """Labelled images on which points in fewer bits are compared with their float points; never the test set.

    Attributes:
        images: in a random order.
        name: what they are, for the record.
        seed: of the order.
        max_drop: by how many points (hundredths) the accuracy may fall.
    """

    images: Images
    name: str
    seed: int = 0
    max_drop: float = 0.5

    @classmethod
    def drawn(cls, images: Images, name: str, *, seed: int, max_drop: float) -> GateData:
        """Return the images in a random order.

        Raises:
            ExportError: they are so few that one image alone is more than the accuracy may fall.
        """
        if len(images) * max_drop < 100:
            needed = f"{math.ceil(100 / max_drop)} or more" if max_drop > 0 else "more"
            raise ExportError(
                f"the gate has {len(images)} images of {name}, of which one is {100 / max(len(images), 1):.2f} points "
                f"of accuracy: a drop of {max_drop:g} cannot be seen; give {needed} with --gate-data, or a greater "
                "--max-drop"
            )
        return cls(images.subset(permutation(len(images), seed)), name, seed, max_drop)

    @property
    def repeated(self) -> int:
        """How many of them go into the bundle."""
        return min(len(self.images), REPEATED)


@dataclass(frozen=True)
class PointPlan:
    """One network to be exported.

    Attributes:
        name: of the point.
        alpha: its place; on a line it may lie a little outside.
        calibration: where BatchNorm's statistics come from: images, or a known set.
        temperature: labelled images for its temperature, which is fitted on one half and reported on the other; never
            those of the evaluation. None leaves it at 1.
        sets: other labelled images, for its prediction sets; None leaves them out.
    """

    name: str
    alpha: Alpha
    calibration: StatisticsSource
    temperature: TemperatureData | None = None
    sets: SetsData | None = None

    @property
    def ensemble(self) -> Ensemble[str]:
        """What answers: the point alone."""
        return Ensemble.point(self.name)

    def in_precision(self, precision: Precision) -> PointPlan:
        """Return the plan of the same point in fewer bits."""
        return replace(self, name=reduced_name(self.name, precision))


@dataclass(frozen=True)
class EnsemblePlan:
    """One ensemble of exported points: its name, what is averaged, and images as a point has them."""

    name: str
    ensemble: Ensemble[str]
    temperature: TemperatureData | None = None
    sets: SetsData | None = None

    def in_precision(self, precision: Precision) -> EnsemblePlan:
        """Return the plan of the same ensemble of points in fewer bits."""
        members = tuple(reduced_name(member, precision) for member in self.ensemble.members)
        return replace(self, name=reduced_name(self.name, precision), ensemble=replace(self.ensemble, members=members))


def reduced_name(name: str, precision: Precision) -> str:
    """Return the name of a point or an ensemble in fewer bits."""
    return f"{name}-{precision}"


@dataclass(frozen=True)
class BundlePlan:
    """What a bundle is to hold.

    Attributes:
        points: one or more.
        ensembles: of these points.
        default: the model that answers when none is named; the first point unless given.
        evaluation: labelled images on which each model's metrics are recorded; None records none.
        input_type: `uint8` for pixels (N, H, W, C), `float` for (N, C, H, W) in [0, 1].
        subspace: training images for the statistics of the subspace, which the bundle then holds too; None leaves it
            out.
        precisions: in which every point and ensemble is written beside its float one, which `gate` is compared with.
        gate: the images of that comparison.
        fused: whether every ensemble is also written as one graph.
        dynamic: whether the subspace is also written as one graph with alpha as an input.
    """

    points: Sequence[PointPlan]
    ensembles: Sequence[EnsemblePlan] = ()
    default: str | None = None
    evaluation: Images | None = None
    input_type: InputType = "uint8"
    subspace: CalibrationData | None = None
    precisions: Sequence[Precision] = ()
    gate: GateData | None = None
    fused: bool = False
    dynamic: bool = False

    @classmethod
    def of(
        cls,
        request: Request,
        calibrations: Mapping[str, StatisticsSource],
        temperatures: Mapping[str, TemperatureData] | None = None,
        sets: Mapping[str, SetsData] | None = None,
        **rest: Any,
    ) -> BundlePlan:
        """Plan what `--alpha` asked for.

        Args:
            request: the points and ensembles.
            calibrations: where each point's statistics come from.
            temperatures: the images for points and ensembles that get a fitted temperature, by name.
            sets: the images for those that get prediction sets, by name.
            rest: the other attributes.
        """
        fitted, promised = temperatures or {}, sets or {}
        points = [
            PointPlan(name, alpha, calibrations[name], fitted.get(name), promised.get(name))
            for name, alpha in request.points.items()
        ]
        ensembles = [
            EnsemblePlan(name, ensemble, fitted.get(name), promised.get(name))
            for name, ensemble in request.ensembles.items()
        ]
        return cls(points, ensembles, **rest)

    @property
    def models(self) -> list[PointPlan | EnsemblePlan]:
        """Everything that answers under a name."""
        found: list[PointPlan | EnsemblePlan] = [*self.points, *self.ensembles]
        return found + [model.in_precision(precision) for precision in self.precisions for model in found]

    @property
    def all_ensembles(self) -> list[EnsemblePlan]:
        """The ensembles, and those of points in fewer bits."""
        return [model for model in self.models if isinstance(model, EnsemblePlan)]

    @property
    def required_gate(self) -> GateData:
        """The gate. Raises `ExportError` where there is none."""
        if self.gate is None:
            raise ExportError("points in fp16 and int8 are compared with float ones on labelled images; give some")
        return self.gate

    def checked(self, origin: Origin) -> BundlePlan:
        """Return the plan with every place checked and normalised by its geometry, before any work is done.

        Raises:
            GeometryError: a place lies outside the domain, or a name is malformed or given twice.
            ExportError: the plan contradicts itself or the subspace.
            CalibrationError: a point's calibration images are too few to check its statistics.
        """
        classes = origin.subspace.architecture.classes
        if self.input_type not in get_args(InputType):
            raise ExportError(f"the graph's input is uint8 or float, not {self.input_type!r}")
        if len(origin.labels) != classes:
            raise ExportError(f"the network has {classes} classes; got {len(origin.labels)} labels")
        if self.subspace is not None and origin.checkpoint is None:
            raise ExportError("a bundle with the subspace takes its checkpoint's file; none was given")
        if not self.points:
            raise ExportError("a bundle holds at least one point; none was given")
        request = Request()
        for point in self.points:
            if point.name in OWN_GRAPHS:
                raise ExportError(f"{point.name} is the name of a graph that every bundle may have; name it otherwise")
            request.add_point(point.name, origin.subspace.geometry.check(point.alpha, extrapolate=True))
            drawn = point.calibration
            if isinstance(drawn, CalibrationData) and drawn.preprocessing != origin.preprocessing:
                raise ExportError(
                    f"the calibration images of {point.name} are normalised with {drawn.preprocessing}, "
                    f"the bundle's input with {origin.preprocessing}; draw them with the run's own preprocessing"
                )
            if isinstance(drawn, CalibrationData):
                drawn.refuse_too_few(origin.network, point.name)
        for model in self.models[len(self.points) :]:
            if isinstance(model, EnsemblePlan):
                request.add_ensemble(model.name, model.ensemble)
            else:
                request.add_point(model.name, model.alpha)
        if self.precisions:
            check_tools()
            check_labels(self.required_gate.images, classes)
        if self.dynamic and (self.subspace is None or origin.subspace.geometry.endpoints == 1):
            raise ExportError(
                "a graph with alpha as an input takes a subspace with its statistics, and this bundle has none; export "
                "a line, a curve or a simplex without --points-only"
            )
        names = [model.name for model in self.models]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ExportError(f"the name {twice[0]} is also that of a point in fewer bits; name one of them otherwise")
        if self.default is not None and self.default not in names:
            raise ExportError(f"the default {self.default!r} is not in this bundle; choose one of {', '.join(names)}")
        return replace(self, points=[replace(point, alpha=request.points[point.name]) for point in self.points])
