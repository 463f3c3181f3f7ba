"""From a trained subspace to a bundle: collapse, recalibrate, export, verify."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from subspace_serve.alpha import Request
from subspace_serve.bundle.manifest import Aggregate, Calibration, Input, Onnx, Parity, Source
from subspace_serve.bundle.manifest import Preprocessing as ManifestPreprocessing
from subspace_serve.bundle.writer import write_bundle
from subspace_serve.calibrate import batchnorm_layers, check_calibration
from subspace_serve.calibration_data import CalibrationData
from subspace_serve.data import Images, Preprocessing
from subspace_serve.errors import ExportError
from subspace_serve.evaluate import describe_alpha, predict_logits, recalibrated
from subspace_serve.geometry import Alpha
from subspace_serve.metrics import classification_metrics, ensemble_probabilities
from subspace_serve.onnx_graph import EXPORTER, OPSET, ServedNetwork, check_parity, export_onnx
from subspace_serve.subspace import Subspace

GOLDEN_COUNT = 8
PARITY_COUNT = 20


def export_bundle(
    subspace: Subspace,
    target: str | Path,
    points: Mapping[str, Alpha],
    *,
    calibration: CalibrationData,
    examples: Images,
    labels: Sequence[str],
    checkpoint_sha256: str,
    ensembles: Mapping[str, Sequence[str]] | None = None,
    aggregate: Aggregate = "probabilities",
    default: str | None = None,
    evaluation: Images | None = None,
    input_dtype: str = "uint8",
    opset: int = OPSET,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write chosen points of a subspace, and ensembles of them, as a bundle that the service deploys.

    Each point is collapsed, recalibrated, checked to be recalibrated on images that were kept apart, exported, and
    compared with torch. The bundle takes its place in one step; when anything fails the old one stays.

    Args:
        subspace: where the points lie.
        target: the bundle's folder.
        points: places by name; for a line they may lie a little outside.
        calibration: images for BatchNorm's statistics, and the normalisation.
        examples: real images for the comparison and for the bundle's golden answers.
        labels: the classes' names.
        checkpoint_sha256: of the checkpoint's file, for the record.
        ensembles: names of points by the ensemble's name.
        aggregate: ensembles average `probabilities` or `logits`.
        default: the model that answers when none is named; the first point unless given.
        evaluation: labelled images on which each point's and ensemble's metrics are recorded.
        input_dtype: `uint8` for pixels (N, H, W, C), `float` for (N, C, H, W) in [0, 1].
        opset: ONNX operator set.
        progress: called with a line for each point.

    Returns:
        The bundle's folder.

    Raises:
        GeometryError: a place lies outside the domain, or a name is malformed or given twice.
        ExportError: a graph cannot be made or does not answer as torch does, or the arguments contradict each other.
        CalibrationError: a BatchNorm layer's statistics do not belong to the network.
        BundleError: the target cannot be replaced.
    """
    if input_dtype not in ("uint8", "float"):
        raise ExportError(f"the graph's input is uint8 or float, not {input_dtype!r}")
    if len(labels) != subspace.architecture.classes:
        raise ExportError(f"the network has {subspace.architecture.classes} classes; got {len(labels)} labels")
    request = _request(subspace, points, ensembles or {}, default)
    target = Path(target)
    pixels, _ = examples.take(torch.arange(min(PARITY_COUNT, len(examples))))
    if len(pixels) < 2:
        raise ExportError(f"export compares the graph with torch on real images; {len(pixels)} is too few")
    architecture = subspace.architecture
    served_input = _input(subspace, calibration.preprocessing, input_dtype)
    logits: dict[str, Tensor] = {}
    golden: dict[str, Tensor] = {}
    with write_bundle(
        target,
        source=Source(
            checkpoint_sha256=checkpoint_sha256,
            geometry=subspace.geometry.name,
            architecture=architecture.to_json(),
        ),
        input=served_input,
        labels=labels,
        onnx=Onnx(opset=opset, exporter=f"{EXPORTER} {torch.__version__}"),
    ) as bundle:
        for name, alpha in request.points.items():
            model = recalibrated(subspace, alpha, calibration, extrapolate=True)
            check_calibration(model, calibration.held_out_batches(), calibration_count=len(calibration))
            if evaluation is not None:
                logits[name] = predict_logits(model, evaluation, calibration.preprocessing)
            network = ServedNetwork(model, calibration.preprocessing, input_dtype).cpu().eval()
            export_onnx(network, pixels, bundle.file(name), opset=opset)
            parity = check_parity(network, pixels, bundle.file(name), input=served_input, classes=architecture.classes)
            with torch.inference_mode():
                golden[name] = network(network.served_input(pixels[:GOLDEN_COUNT]))[0]
            bundle.add_point(
                name,
                alpha=alpha,
                coefficients=[float(c) for c in subspace.geometry.coefficients(alpha, extrapolate=True)],
                calibration=Calibration(**calibration.to_json()) if batchnorm_layers(model) else None,
                parity=Parity(
                    provider=parity.provider,
                    max_abs_diff=parity.max_abs_diff,
                    top1_flips=parity.top1_flips,
                    tolerance=parity.tolerance,
                ),
                metrics=_metrics([logits[name]], evaluation, aggregate) if evaluation is not None else None,
            )
            progress(
                f"{name}: alpha {describe_alpha(alpha)}, ONNX and torch differ by at most {parity.max_abs_diff:.1e}"
            )
        for name, members in request.ensembles.items():
            metrics = None
            if evaluation is not None:
                metrics = _metrics([logits[member] for member in members], evaluation, aggregate)
            bundle.add_ensemble(name, members=members, aggregate=aggregate, metrics=metrics)
        network_input = ServedNetwork(torch.nn.Identity(), calibration.preprocessing, input_dtype)
        bundle.set_golden(
            network_input.served_input(pixels[:GOLDEN_COUNT]).numpy(),
            {name: values.numpy() for name, values in golden.items()},
        )
        bundle.default = default
    return target


def _request(
    subspace: Subspace, points: Mapping[str, Alpha], ensembles: Mapping[str, Sequence[str]], default: str | None
) -> Request:
    """Check what is asked for before any work is done."""
    if not points:
        raise ExportError("a bundle holds at least one point; none was given")
    request = Request()
    for name, alpha in points.items():
        request.add_point(name, subspace.geometry.check(alpha, extrapolate=True))
    for name, members in ensembles.items():
        request.add_ensemble(name, list(members))
    names = [*request.points, *request.ensembles]
    if default is not None and default not in names:
        raise ExportError(f"the default {default!r} is not in this bundle; choose one of {', '.join(names)}")
    return request


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


def _metrics(members: list[Tensor], evaluation: Images, aggregate: str) -> dict[str, float]:
    return classification_metrics(ensemble_probabilities(members, aggregate=aggregate), evaluation.labels)
