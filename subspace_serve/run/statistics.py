"""Where the BatchNorm statistics of a run's networks come from: images, a set of its bundle, or imported weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subspace_serve.data.domains import Domain
    from subspace_serve.measure.networks import StatisticsSource
    from subspace_serve.network.calibration_data import CalibrationData
    from subspace_serve.run.opened import OpenRun

SOURCES = "sources"
"""Names the BatchNorm statistics that imported weights brought along: those of the ends."""
CHOOSING_HALF = ":choosing half"
"""What the name of calibration images ends with where they are the half of a domain on which a place was chosen."""
SOURCES_FILE = "statistics-sources.safetensors"


def usual_statistics(run: OpenRun) -> StatisticsSource:
    """Return what gives networks their BatchNorm statistics: training images, or the set that a bundle has of them.

    Where weights were imported without data it is their own statistics, of the ends.
    """
    if run.bundled is None:
        own = not run.has_data and run.network.skeleton.batchnorms
        return statistics_of_sources(run) if own else run.calibration
    from subspace_serve.bundle.manifest import TRAINING

    return statistics_on(run, TRAINING)


def statistics_on(run: OpenRun, spec: str) -> StatisticsSource:
    """Return a known statistics set by its name, or else images of a domain to recalibrate with.

    Args:
        run: the run whose networks need them.
        spec: a set of the bundle, or `sources` of imported weights, or images.

    Raises:
        DataError: they are test images.
        CheckpointError: imported weights brought no statistics along.
    """
    from subspace_serve.network.statistics_set import KnownStatistics

    if run.bundled is None and spec == SOURCES:
        return statistics_of_sources(run)
    if run.bundled is None or spec not in run.bundled.sets:
        return calibration_on(run, spec)
    return KnownStatistics(run.bundled.statistics(spec), run.bundled.record.statistics[spec].calibration.model_dump())


def statistics_of_sources(run: OpenRun) -> StatisticsSource:
    """Return the BatchNorm statistics that imported weights brought along.

    Raises:
        CheckpointError: they brought none.
    """
    from subspace_serve.errors import CheckpointError
    from subspace_serve.network.statistics_set import KnownStatistics, StatisticsSet

    file = run.folder / SOURCES_FILE
    if not file.is_file():
        raise CheckpointError(
            f"{run.folder} has no BatchNorm statistics of its sources; recompute them from images of the kind "
            "(--calibrate-on SPEC)"
        )
    known = StatisticsSet.load(file, run.subspace.geometry, run.network.skeleton, run.checkpoint_sha256, ends_only=True)
    return KnownStatistics(known, {"data": SOURCES, "count": None, "batch_size": None, "seed": None})


def statistics_of_selection(run: OpenRun, name: str, selection: Mapping[str, Any]) -> StatisticsSource:
    """Return what a stored selection's networks have their statistics from, by its name."""
    if run.bundled is None:
        return calibration_of_selection(run, selection)
    return statistics_on(run, run.bundled.bundle.manifest.domains[name].statistics)


def calibration_on(run: OpenRun, spec: str) -> CalibrationData:
    """Return unlabelled images of a domain for BatchNorm's statistics instead of training images.

    Raises:
        DataError: they are test images.
    """
    from subspace_serve.run.images import unlabelled_images
    from subspace_serve.run.leakage import refuse_test_images

    images = unlabelled_images(run, spec)
    refuse_test_images(run, spec, images)
    return run.draw(images, spec)


def calibration_in(run: OpenRun, domain: Domain, seed: int) -> CalibrationData:
    """Return the half of a domain's images on which a selection was made, without their labels."""
    from subspace_serve.select import split

    choosing, _ = split(domain.images, len(run.labels), seed=seed)
    return run.draw(choosing, domain.name + CHOOSING_HALF)


def calibration_of_selection(run: OpenRun, selection: Mapping[str, Any]) -> CalibrationData:
    """Return the images that calibrated a stored selection."""
    from subspace_serve.run.domains import recorded_domain
    from subspace_serve.select import DEFAULT_CALIBRATION, ON_DOMAIN

    recorded = selection.get("calibration", {"on": DEFAULT_CALIBRATION})
    on = recorded["on"]
    if on == DEFAULT_CALIBRATION:
        return run.calibration
    as_then = replace(
        run,
        calibration_count=recorded.get("count", run.calibration_count),
        calibration_batch=recorded.get("batch_size", run.calibration_batch),
        seed=recorded.get("seed", run.seed),
    )
    if on != ON_DOMAIN:
        return calibration_on(as_then, on)
    return calibration_in(as_then, recorded_domain(as_then, selection["domain"]), selection["seed"])
