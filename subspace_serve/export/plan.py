"""What is to be exported: which points and ensembles of which subspace, and the images that each needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from subspace_serve.data import Images, Preprocessing
from subspace_serve.errors import ExportError
from subspace_serve.export.parity import THE_SKELETON, Reference
from subspace_serve.measure.conformal import SetsData
from subspace_serve.measure.networks import StatisticsSource
from subspace_serve.measure.temperature import TemperatureData
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.network.network import Network
from subspace_serve.network.served import InputType
from subspace_serve.space.alpha import Request
from subspace_serve.space.ensemble import Ensemble
from subspace_serve.space.place import Alpha
from subspace_serve.space.subspace import Subspace


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


@dataclass(frozen=True)
class EnsemblePlan:
    """One ensemble of exported points: its name, what is averaged, and images as a point has them."""

    name: str
    ensemble: Ensemble[str]
    temperature: TemperatureData | None = None
    sets: SetsData | None = None


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
    """

    points: Sequence[PointPlan]
    ensembles: Sequence[EnsemblePlan] = ()
    default: str | None = None
    evaluation: Images | None = None
    input_type: InputType = "uint8"
    subspace: CalibrationData | None = None

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
        return [*self.points, *self.ensembles]

    def checked(self, origin: Origin) -> BundlePlan:
        """Return the plan with every place checked and normalised by its geometry, before any work is done.

        Raises:
            GeometryError: a place lies outside the domain, or a name is malformed or given twice.
            ExportError: the plan contradicts itself or the subspace.
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
            request.add_point(point.name, origin.subspace.geometry.check(point.alpha, extrapolate=True))
            drawn = point.calibration
            if isinstance(drawn, CalibrationData) and drawn.preprocessing != origin.preprocessing:
                raise ExportError(
                    f"the calibration images of {point.name} are normalised with {drawn.preprocessing}, "
                    f"the bundle's input with {origin.preprocessing}; draw them with the run's own preprocessing"
                )
        for plan in self.ensembles:
            request.add_ensemble(plan.name, plan.ensemble)
        names = [model.name for model in self.models]
        if self.default is not None and self.default not in names:
            raise ExportError(f"the default {self.default!r} is not in this bundle; choose one of {', '.join(names)}")
        return replace(self, points=[replace(point, alpha=request.points[point.name]) for point in self.points])
