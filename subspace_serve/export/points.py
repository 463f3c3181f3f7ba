"""From a trained subspace to a bundle: collapse, recalibrate, export, verify."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from subspace_serve.bundle.manifest import Aggregate, Calibration, Input, Onnx, Source, UnfinishedTraining
from subspace_serve.bundle.manifest import Preprocessing as ManifestPreprocessing
from subspace_serve.bundle.verify import check_graph
from subspace_serve.bundle.writer import write_bundle
from subspace_serve.data import Images, Preprocessing
from subspace_serve.errors import BundleError, ExportError
from subspace_serve.export.answers import Answers
from subspace_serve.export.parity import BATCHES, THE_SKELETON, Reference, check_parity, parity_images
from subspace_serve.measure.temperature import TemperatureData
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.network.network import Network
from subspace_serve.network.served import InputType, ServedGraph, as_served
from subspace_serve.space.alpha import EnsembleRequest, Request
from subspace_serve.space.place import Alpha, place_text
from subspace_serve.space.subspace import Subspace

GOLDEN_COUNT = 8


def export_bundle(
    subspace: Subspace,
    target: str | Path,
    points: Mapping[str, Alpha],
    *,
    network: Network,
    calibration: CalibrationData,
    examples: Images,
    labels: Sequence[str],
    checkpoint_sha256: str,
    calibrations: Mapping[str, CalibrationData] | None = None,
    ensembles: Mapping[str, Sequence[str] | EnsembleRequest] | None = None,
    aggregate: Aggregate = "probabilities",
    default: str | None = None,
    evaluation: Images | None = None,
    temperature: TemperatureData | None = None,
    temperatures: Mapping[str, TemperatureData] | None = None,
    input_dtype: InputType = "uint8",
    reference: Reference = THE_SKELETON,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write chosen points of a subspace, and ensembles of them, as a bundle that the service deploys.

    Each point is collapsed, recalibrated, checked to be recalibrated on images that were kept apart, written, and
    compared with the reference. The bundle takes its place in one step; when anything fails the old one stays.

    Args:
        subspace: where the points lie.
        target: the bundle's folder.
        points: places by name; for a line they may lie a little outside.
        network: the subspace on ONNX Runtime.
        calibration: images for BatchNorm's statistics, and the normalisation.
        examples: real images for the comparison and for the bundle's golden answers.
        labels: the classes' names.
        checkpoint_sha256: of the checkpoint's file, for the record.
        calibrations: for some points, by name, images that take the place of `calibration`.
        ensembles: names of points by the ensemble's name, or these with weights and what is averaged.
        aggregate: what ensembles average that do not say it: `probabilities` or `logits`.
        default: the model that answers when none is named; the first point unless given.
        evaluation: labelled images on which each point's and ensemble's metrics are recorded.
        temperature: labelled images on which each point's and each ensemble's temperature is fitted (on one half, and
            reported on the other); never those of `evaluation`. None leaves the temperatures at 1.
        temperatures: for some points and ensembles, by name, images that take the place of `temperature`.
        input_dtype: `uint8` for pixels (N, H, W, C), `float` for (N, C, H, W) in [0, 1].
        reference: what the graphs are compared with.
        progress: called with a line for each point.

    Returns:
        The bundle's folder.

    Raises:
        GeometryError: a place lies outside the domain, or a name is malformed or given twice.
        ExportError: a graph does not answer as the reference does, or the arguments contradict each other.
        CalibrationError: a BatchNorm layer's statistics do not belong to the network.
        DataError: no temperature can be fitted on the images given, or they have other classes.
        BundleError: the target cannot be replaced.
    """
    if input_dtype not in ("uint8", "float"):
        raise ExportError(f"the graph's input is uint8 or float, not {input_dtype!r}")
    if len(labels) != subspace.architecture.classes:
        raise ExportError(f"the network has {subspace.architecture.classes} classes; got {len(labels)} labels")
    request = _request(subspace, points, ensembles or {}, default)
    calibrations = _calibrations(request, calibration, calibrations or {})
    answers = Answers(
        request.ensembles,
        evaluation=evaluation,
        temperatures=_temperatures(request, temperature, temperatures or {}),
        classes=subspace.architecture.classes,
    )
    target = Path(target)
    pixels = parity_images(examples.take(np.arange(min(len(examples), sum(BATCHES))))[0])
    architecture = subspace.architecture
    served_input = _input(subspace, calibration.preprocessing, input_dtype)
    served = ServedGraph(network, input_dtype)
    served_images = as_served(pixels, input_dtype)
    skeleton = network.skeleton
    golden: dict[str, np.ndarray] = {}
    with write_bundle(
        target,
        source=Source(
            checkpoint_sha256=checkpoint_sha256,
            geometry=subspace.geometry.name,
            architecture=architecture.to_json(),
            unfinished=_unfinished(subspace),
        ),
        input=served_input,
        labels=labels,
        onnx=Onnx(opset=skeleton.opset, exporter=skeleton.exporter),
    ) as bundle:
        for name, alpha in request.points.items():
            calibrated_on = calibrations[name]
            weights = network.weights(alpha, extrapolate=True)
            statistics = network.recalibrate(calibrated_on.pixels(), weights=weights)
            network.check(statistics, calibrated_on.held_out_pixels(), weights=weights)
            answering = network.with_weights(weights, statistics)
            answers.add(name, answering.logits_of)
            record = answers.record(name)
            _write_graph(
                bundle.file(name),
                served.file(weights, statistics),
            )
            expected = (
                answering.logits(pixels) if reference.logits is None else reference.logits(alpha, statistics, pixels)
            )
            parity = check_parity(
                bundle.file(name),
                served_images,
                expected,
                input=served_input,
                classes=architecture.classes,
                reference=reference,
            )
            golden[name] = expected[:GOLDEN_COUNT]
            bundle.add_point(
                name,
                alpha=alpha,
                coefficients=[float(c) for c in subspace.geometry.coefficients(alpha, extrapolate=True)],
                calibration=_calibration(calibrated_on) if skeleton.batchnorms else None,
                parity=parity,
                metrics=record.metrics,
                temperature=record.temperature,
                temperature_fit=record.temperature_fit,
            )
            progress(
                f"{name}: alpha {place_text(alpha)}, its graph and {reference.text} differ by at most "
                f"{parity.max_abs_diff:.1e}"
            )
            if record.temperature_fit is not None:
                progress(f"{name}: {record.describe()}")
        for name, ensemble in request.ensembles.items():
            record = answers.record(name, aggregate)
            bundle.add_ensemble(
                name,
                members=ensemble.members,
                weights=ensemble.weights,
                aggregate=ensemble.aggregate or aggregate,
                metrics=record.metrics,
                temperature=record.temperature,
                temperature_fit=record.temperature_fit,
            )
            if record.temperature_fit is not None:
                progress(f"{name}: {record.describe()}")
        bundle.set_golden(served_images[:GOLDEN_COUNT], golden)
        bundle.default = default
    return target


def _request(
    subspace: Subspace,
    points: Mapping[str, Alpha],
    ensembles: Mapping[str, Sequence[str] | EnsembleRequest],
    default: str | None,
) -> Request:
    """Check what is asked for before any work is done."""
    if not points:
        raise ExportError("a bundle holds at least one point; none was given")
    request = Request()
    for name, alpha in points.items():
        request.add_point(name, subspace.geometry.check(alpha, extrapolate=True))
    for name, given in ensembles.items():
        ensemble = given if isinstance(given, EnsembleRequest) else EnsembleRequest(tuple(given))
        request.add_ensemble(name, ensemble.members, ensemble.weights, ensemble.aggregate)
    names = [*request.points, *request.ensembles]
    if default is not None and default not in names:
        raise ExportError(f"the default {default!r} is not in this bundle; choose one of {', '.join(names)}")
    return request


def _calibrations(
    request: Request, calibration: CalibrationData, calibrations: Mapping[str, CalibrationData]
) -> dict[str, CalibrationData]:
    """Return each point's calibration images."""
    if unknown := sorted(calibrations.keys() - request.points.keys()):
        raise ExportError(
            f"calibration images are given for {unknown[0]}, which is no point; choose of {', '.join(request.points)}"
        )
    for name, given in calibrations.items():
        if given.preprocessing != calibration.preprocessing:
            raise ExportError(
                f"the calibration images of {name} are normalised with {given.preprocessing}, the bundle's input with "
                f"{calibration.preprocessing}; draw them with the run's own preprocessing"
            )
    return {name: calibrations.get(name, calibration) for name in request.points}


def _temperatures(
    request: Request, temperature: TemperatureData | None, temperatures: Mapping[str, TemperatureData]
) -> dict[str, TemperatureData]:
    """Return the images on which temperatures are fitted, by point and ensemble; none where it stays 1."""
    names = [*request.points, *request.ensembles]
    if unknown := sorted(temperatures.keys() - set(names)):
        raise ExportError(
            f"images for a temperature are given for {unknown[0]}, which is not in this bundle; choose of "
            f"{', '.join(names)}"
        )
    usual = {} if temperature is None else dict.fromkeys(names, temperature)
    return usual | dict(temperatures)


def _calibration(data: CalibrationData) -> Calibration:
    return Calibration(data=data.name, count=len(data), batch_size=data.batch_size, seed=data.seed)


def _write_graph(file: Path, data: bytes) -> None:
    """Write a graph, and run ONNX's full checker on it where it is installed."""
    file.write_bytes(data)
    try:
        check_graph(file)
    except BundleError as error:
        raise ExportError(f"{error}; the bundle was not written") from error


def _unfinished(subspace: Subspace) -> UnfinishedTraining | None:
    """Return how far the run had come, for the manifest, when it has not come to its end."""
    unfinished = subspace.unfinished_training
    return unfinished and UnfinishedTraining(finished_epochs=unfinished[0], planned_epochs=unfinished[1])


def _input(subspace: Subspace, preprocessing: Preprocessing, input_dtype: str) -> Input:
    architecture = subspace.architecture
    return Input(
        dtype="uint8" if input_dtype == "uint8" else "float32",
        layout="NHWC" if input_dtype == "uint8" else "NCHW",
        height=architecture.height,
        width=architecture.width,
        channels=architecture.channels,
        preprocessing=ManifestPreprocessing(mean=preprocessing.mean, std=preprocessing.std),
    )
