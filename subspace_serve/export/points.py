"""From a trained subspace to a bundle: collapse, recalibrate, export, verify."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.bundle.manifest import TRAINING, Calibration, Input, Onnx, Parity, Source, UnfinishedTraining
from subspace_serve.bundle.manifest import Preprocessing as ManifestPreprocessing
from subspace_serve.bundle.verify import check_graph
from subspace_serve.bundle.writer import BundleWriter, write_bundle
from subspace_serve.errors import BundleError, ExportError
from subspace_serve.export.answers import Answers
from subspace_serve.export.parity import BATCHES, Reference, check_parity, parity_images
from subspace_serve.export.plan import BundlePlan, EnsemblePlan, Origin, PointPlan
from subspace_serve.export.reduced import Reducer
from subspace_serve.export.whole import export_dynamic, export_subspace
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.network.network import Network
from subspace_serve.network.served import InputType, ServedGraph, as_served
from subspace_serve.network.statistics import Statistics
from subspace_serve.space.place import Alpha, place_text
from subspace_serve.space.subspace import Subspace

GOLDEN_COUNT = 8


def export_bundle(
    origin: Origin,
    plan: BundlePlan,
    target: str | Path,
    *,
    drop_domains: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write chosen points of a subspace, and ensembles of them, as a bundle that the service deploys.

    Each point is collapsed and gets its BatchNorm statistics, which are checked on held-out images where there are any;
    its graph is written and compared with the reference. The bundle takes its place in one step; when anything fails
    the old one stays.

    Args:
        origin: the subspace, and what is known of it.
        plan: the points and ensembles.
        target: the bundle's folder.
        drop_domains: replace an older bundle although it has domains, which are lost.
        progress: called with a line for each point.

    Returns:
        The bundle's folder.

    Raises:
        GeometryError: a place lies outside the domain, or a name is malformed or given twice.
        ExportError: a graph does not answer as the reference does, or the plan contradicts itself or the subspace.
        CalibrationError: a BatchNorm layer's statistics are not finite, not the network's on held-out images, or not
            known at that place, or there are too few images to check them.
        DataError: no temperature can be fitted on the images given, or they have other classes.
        BundleError: the target cannot be replaced, has domains, or is changed by another process for a minute.
    """
    plan = plan.checked(origin)
    architecture, skeleton = origin.subspace.architecture, origin.network.skeleton
    answers = Answers(plan.models, plan.evaluation, architecture.classes)
    pixels = parity_images(origin.examples.take(np.arange(min(len(origin.examples), sum(BATCHES))))[0])
    golden: dict[str, np.ndarray] = {}
    with write_bundle(
        target,
        source=Source(
            checkpoint_sha256=origin.checkpoint_sha256,
            geometry=origin.subspace.geometry.name,
            architecture=architecture.to_json(),
            unfinished=_unfinished(origin.subspace),
        ),
        input=_input(origin, plan.input_type),
        labels=origin.labels,
        onnx=Onnx(opset=skeleton.opset, exporter=skeleton.exporter),
        drop_domains=drop_domains,
    ) as bundle:
        input = _input(origin, plan.input_type)
        reducer = Reducer(bundle, origin.network, plan, input, pixels, answers, progress)
        for point in plan.points:
            expected = _export_point(bundle, origin, plan, point, pixels, answers, progress)
            logits = {point.name: expected} | reducer.write(point, expected)
            golden |= {name: rows[:GOLDEN_COUNT] for name, rows in logits.items()}
        reducer.finish()
        for entry in plan.all_ensembles:
            _export_ensemble(bundle, plan, entry, answers, input, as_served(pixels, plan.input_type), progress)
        if plan.subspace is not None and origin.checkpoint is not None:
            statistics = export_subspace(bundle, origin, origin.checkpoint, plan.subspace, progress=progress)
            if plan.dynamic:
                export_dynamic(
                    bundle, origin.network, statistics, plan.input_type, pixels[:GOLDEN_COUNT], progress=progress
                )
        bundle.set_golden(as_served(pixels[:GOLDEN_COUNT], plan.input_type), golden)
        bundle.default = plan.default
    return Path(target)


def _export_point(
    bundle: BundleWriter,
    origin: Origin,
    plan: BundlePlan,
    point: PointPlan,
    pixels: np.ndarray,
    answers: Answers,
    progress: Callable[[str], None],
) -> np.ndarray:
    """Write one point's graph and enter it into the bundle; return the reference's logits for `pixels`."""
    network, reference, input_type = origin.network, origin.reference, plan.input_type
    weights = network.weights(point.alpha, extrapolate=True)
    statistics = point.calibration.statistics(network, point.alpha, weights)
    if isinstance(point.calibration, CalibrationData):  # of a known set there are no images to check it on
        network.check(statistics, point.calibration.held_out_pixels(), weights=weights)
    answering = network.with_weights(weights, statistics)
    answers.add(point.name, answering.logits_of)
    record = answers.record(point.name)
    if reference.logits is None:
        expected = answering.logits(pixels)
    else:
        expected = reference.logits(point.alpha, statistics, pixels)
    parity = write_point(
        bundle,
        network,
        point.name,
        point.alpha,
        statistics,
        input=_input(origin, input_type),
        pixels=pixels,
        expected=expected,
        reference=reference,
        calibration=Calibration(**point.calibration.to_json()),
        statistics_set=TRAINING if point.calibration is plan.subspace else None,
        **vars(record),
    )
    progress(
        f"{point.name}: alpha {place_text(point.alpha)}, its graph and {reference.text} differ by at most "
        f"{parity.max_abs_diff:.1e}"
    )
    if record.temperature_fit is not None:
        progress(f"{point.name}: {record.describe()}")
    return expected


def _export_ensemble(
    bundle: BundleWriter,
    plan: BundlePlan,
    entry: EnsemblePlan,
    answers: Answers,
    input: Input,
    images: np.ndarray,
    progress: Callable[[str], None],
) -> None:
    """Enter an ensemble into the bundle and, where the plan says so, write it as one graph."""
    record = answers.record(entry.name)
    bundle.add_ensemble(entry.name, **vars(entry.ensemble), **vars(record))
    if record.temperature_fit is not None:
        progress(f"{entry.name}: {record.describe()}")
    if plan.fused:
        from subspace_serve.export.fused.writing import write_fused  # needs the package onnx

        difference = write_fused(
            bundle, entry.name, entry.ensemble, record.temperature, input=input, classes=answers.classes, images=images
        )
        progress(f"{entry.name}: as one graph it differs from its members' average by at most {difference:.1e}")


def write_point(
    bundle: BundleWriter,
    network: Network,
    name: str,
    alpha: Alpha,
    statistics: Statistics,
    *,
    input: Input,
    pixels: np.ndarray,
    expected: np.ndarray,
    reference: Reference,
    calibration: Calibration,
    statistics_set: str | None,
    **answers: Any,
) -> Parity:
    """Write one network's graph into a bundle, compare its answers with those expected, and enter it as a point.

    Args:
        bundle: the bundle that is being written.
        network: the subspace.
        name, alpha: of the point.
        statistics: of its BatchNorm layers.
        input: what the bundle's graphs take.
        pixels: images on which answers are compared, uint8 (N, H, W, C).
        expected: the reference's logits for them.
        reference: where these are from.
        calibration: the images of the statistics, for the record; left out for a network without BatchNorm.
        statistics_set: the name of the set that holds these images' statistics, if any.
        answers: what is recorded of how it answers, as `BundleWriter.add_point` takes it.

    Raises:
        ExportError: the graph is not valid, or does not answer as expected.
    """
    input_type: InputType = "uint8" if input.dtype == "uint8" else "float"
    file = bundle.file(name)
    file.unlink(missing_ok=True)  # it may be a hard link to another bundle's file
    _write_graph(file, ServedGraph(network, input_type).file(network.weights(alpha, extrapolate=True), statistics))
    parity = check_parity(
        file, as_served(pixels, input_type), expected, input=input, classes=network.classes, reference=reference
    )
    bundle.add_point(
        name,
        alpha=alpha,
        coefficients=network.geometry.coefficients(alpha, extrapolate=True).tolist(),
        calibration=calibration if network.skeleton.batchnorms else None,
        parity=parity,
        statistics=statistics_set,
        **answers,
    )
    return parity


def _write_graph(file: Path, data: bytes) -> None:
    """Write a graph, and run ONNX's full checker on it where it is installed."""
    file.write_bytes(data)
    try:
        check_graph(file)
    except BundleError as error:
        raise ExportError(f"{error}; the bundle was not written") from error


def _unfinished(subspace: Subspace) -> UnfinishedTraining | None:
    """Return how far training has come, for the manifest; None when it is complete."""
    unfinished = subspace.unfinished_training
    return unfinished and UnfinishedTraining(finished_epochs=unfinished[0], planned_epochs=unfinished[1])


def _input(origin: Origin, input_type: InputType) -> Input:
    architecture = origin.subspace.architecture
    return Input(
        dtype="uint8" if input_type == "uint8" else "float32",
        layout="NHWC" if input_type == "uint8" else "NCHW",
        height=architecture.height,
        width=architecture.width,
        channels=architecture.channels,
        preprocessing=ManifestPreprocessing(mean=origin.preprocessing.mean, std=origin.preprocessing.std),
    )
