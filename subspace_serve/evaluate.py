"""How good the networks of a subspace are, alone and in output-space ensembles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from subspace_serve.calibrate import recalibrate_batchnorm
from subspace_serve.calibration_data import CalibrationData
from subspace_serve.data import Images, Preprocessing, preprocess
from subspace_serve.errors import DataError
from subspace_serve.geometry import Alpha, Geometry
from subspace_serve.metrics import classification_metrics, ensemble_probabilities, total_variation
from subspace_serve.subspace import Subspace, endpoint_distances

DEFAULT_POINTS = 11
EVALUATION_BATCH_SIZE = 256


def default_alphas(geometry: Geometry, points: int = DEFAULT_POINTS) -> list[Alpha]:
    """Return evenly spaced places of a line or curve; the vertices and the midpoint of a simplex."""
    if geometry.barycentric:
        return list(dict.fromkeys([*geometry.ends, geometry.midpoint]))
    return [float(alpha) for alpha in np.linspace(0, 1, points).round(10)]


def recalibrated(
    subspace: Subspace, alpha: Alpha, calibration: CalibrationData, *, extrapolate: bool = False
) -> nn.Module:
    """Collapse to P(alpha) and recompute BatchNorm's statistics; the network is on the calibration data's device."""
    model = subspace.collapse(alpha, extrapolate=extrapolate).to(calibration.device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    recalibrate_batchnorm(model, calibration)
    return model


@torch.inference_mode()
def predict_logits(model: nn.Module, images: Images, preprocessing: Preprocessing) -> Tensor:
    """Return a network's logits for every image, on the CPU. Shape (N, classes)."""
    device = next(model.parameters()).device
    return torch.cat(
        [
            model(preprocess(pixels, preprocessing, device)).float().cpu()
            for pixels, _ in images.batches(EVALUATION_BATCH_SIZE)
        ]
    )


def evaluate(
    subspace: Subspace,
    images: Images,
    *,
    preprocessing: Preprocessing,
    calibration: CalibrationData,
    alphas: Sequence[Alpha] | None = None,
    ensembles: bool = True,
    aggregate: str = "probabilities",
    extrapolate: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Evaluate networks along a subspace and the ensembles that they form (sections 4.1 and 4.2).

    Args:
        subspace: what is evaluated.
        images: labelled images.
        preprocessing: the networks' normalisation.
        calibration: images from which each network's BatchNorm statistics are recomputed.
        alphas: the places; by default 11 along a line or curve, the vertices and the midpoint of a simplex.
        ensembles: measure ensembles too, which needs the opposite of each place and the ends.
        aggregate: ensembles average `probabilities` or `logits`.
        extrapolate: allow places a little outside a line.
        progress: called with a line for each place.

    Returns:
        A document of JSON values: `geometry`, `count`, `aggregate`, `calibration`, `endpoint_distances`; `points`,
        each with `alpha`, `metrics` (accuracy, nll, ece, brier) and, for lines and curves, `ensemble`, the metrics of
        P(alpha) and P(1 - alpha) averaged in output space; and `endpoints_ensemble`, the metrics of the ends averaged
        together and the mean total variation between them.

    Raises:
        GeometryError: a place lies outside the domain.
        DataError: there are no images, or a label is not one of the network's classes.
    """
    geometry = subspace.geometry
    _check_labels(images, subspace.architecture.classes)
    places = [
        geometry.check(alpha, extrapolate=extrapolate)
        for alpha in (default_alphas(geometry) if alphas is None else alphas)
    ]
    logits: dict[Alpha, Tensor] = {}

    def logits_at(alpha: Alpha) -> Tensor:
        key = alpha if geometry.barycentric else round(float(alpha), 9)  # type: ignore[arg-type]
        if key not in logits:
            model = recalibrated(subspace, alpha, calibration, extrapolate=extrapolate)
            logits[key] = predict_logits(model, images, preprocessing)
            progress(f"alpha {describe_alpha(alpha)}")
        return logits[key]

    points = []
    for alpha in places:
        point = {"alpha": alpha, "metrics": _metrics([logits_at(alpha)], images.labels, aggregate)}
        opposite = geometry.opposite(alpha) if ensembles else None
        if opposite is not None:
            point["ensemble"] = _metrics([logits_at(alpha), logits_at(opposite)], images.labels, aggregate)
        points.append(point)
    document = {
        "geometry": geometry.name,
        "count": len(images),
        "aggregate": aggregate,
        "calibration": calibration.to_json(),
        "endpoint_distances": endpoint_distances(subspace.endpoints),
        "points": points,
    }
    if ensembles and geometry.endpoints > 1:
        ends = [logits_at(end) for end in geometry.ends]
        document["endpoints_ensemble"] = {
            "members": geometry.ends,
            "metrics": _metrics(ends, images.labels, aggregate),
            "total_variation": _mean_total_variation(ends),
        }
    return document


def describe_alpha(alpha: Alpha) -> str:
    """Return alpha as it is written on the command line."""
    return f"{alpha:g}" if isinstance(alpha, float) else ",".join(f"{value:.4g}" for value in alpha)  # type: ignore[union-attr]


def _metrics(members: list[Tensor], labels: Tensor, aggregate: str) -> dict[str, float]:
    return classification_metrics(ensemble_probabilities(members, aggregate=aggregate), labels)


def _mean_total_variation(members: list[Tensor]) -> float:
    probabilities = [logits.softmax(1) for logits in members]
    pairs = [
        total_variation(first, second) for i, first in enumerate(probabilities) for second in probabilities[i + 1 :]
    ]
    return sum(pairs) / len(pairs)


def _check_labels(images: Images, classes: int) -> None:
    if len(images) == 0:
        raise DataError("there are no images to evaluate on")
    largest = int(images.labels.max())
    if largest >= classes:
        raise DataError(
            f"a label is {largest} and the network has classes 0 to {classes - 1}; use the data it was trained for"
        )
