"""A standard network beside a run: another run that can be measured on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from subspace_serve.run.statistics import statistics_on, usual_statistics

if TYPE_CHECKING:
    from subspace_serve.data import Images
    from subspace_serve.data.domains import Domain
    from subspace_serve.measure.networks import StatisticsSource
    from subspace_serve.measure.results import Evaluation
    from subspace_serve.network.network import Network
    from subspace_serve.run.opened import OpenRun


def comparable_run(run: OpenRun, path: Path) -> OpenRun:
    """Open a standard network's run with the options of another one.

    Raises:
        DataError: it is no single network, or was trained for other classes or images of another size.
    """
    from subspace_serve.errors import DataError

    other = replace(run, path=path)
    geometry = other.subspace.geometry
    if geometry.endpoints > 1:
        raise DataError(
            f"the baseline {path} is a {geometry.name} of {geometry.endpoints} endpoints and no standard network; name "
            "a run of `subspace-serve train --subspace standard`, or evaluate this one on its own"
        )
    if other.labels != run.labels:
        raise DataError(f"the baseline {path} was trained for other classes than {run.path}; compare like with like")
    if (found := _image_size(other)) != (wanted := _image_size(run)):
        raise DataError(
            f"the baseline {path} takes images of {found}, and {run.path} takes {wanted}; both are measured on the "
            "same images: compare like with like"
        )
    return other


def _image_size(run: OpenRun) -> str:
    wanted = run.subspace.architecture
    return f"{wanted.height}x{wanted.width}, {wanted.channels} channel(s)"


@dataclass(frozen=True)
class Baseline:
    """A standard network, ready to be measured.

    Attributes:
        network: a single one.
        statistics: where its BatchNorm statistics come from.
    """

    network: Network
    statistics: StatisticsSource

    @classmethod
    def of(cls, run: OpenRun, calibrate_on: str | None = None) -> Baseline:
        """Get a run's network and statistics; call this before long work.

        Args:
            run: what `comparable_run` returned.
            calibrate_on: images to recompute statistics with instead of the usual ones.

        Raises:
            CheckpointError, DataError: the run has no skeleton, or the images are not there or not allowed.
        """
        return cls(run.network, statistics_on(run, calibrate_on) if calibrate_on else usual_statistics(run))

    def beside(
        self, evaluation: Evaluation, images: Images, corrupted: Sequence[Domain] = (), *, reliability: bool = False
    ) -> Evaluation:
        """Return an evaluation with this network's results on the same images, clean and corrupted, added."""
        from subspace_serve.measure.evaluation import evaluate

        standard = evaluate(
            self.network,
            images,
            calibration=self.statistics,
            alphas=[self.network.geometry.midpoint],
            ensembles=False,
            corrupted=corrupted,
            reliability=reliability,
        )
        return evaluation.with_baseline(standard)
