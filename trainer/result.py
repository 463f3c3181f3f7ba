"""What a run produces: a subspace of its endpoints or members, with where it came from and what it is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from subspace_serve.answers import softmax
from subspace_serve.data import DataSet
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.network.calibration_data import draw_calibration_data
from subspace_serve.packages import versions
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace, Weights
from trainer.config import TrainingConfig
from trainer.modules import as_module, predict_logits
from trainer.parameters import EndpointMatrix
from trainer.progress import Progress
from trainer.trajectory import planned_epochs

VALIDATION_CALIBRATION = 2048


def result(
    config: TrainingConfig,
    data: DataSet,
    architecture: Architecture,
    kept: Weights,
    endpoints: EndpointMatrix,
    progress: Progress,
) -> Subspace:
    """Return the subspace as it is after the finished epochs.

    A baseline's endpoints are the members that it has kept, or the network in training while there are none. With early
    stopping they are those of the best epoch.
    """
    training: dict[str, Any] = config.to_json() | {
        "finished_epochs": progress.epochs,
        "planned_epochs": len(planned_epochs(config)),
    }
    if progress.best is not None:
        training["kept_epoch"] = progress.best.epoch
    provenance = {
        "data": {
            "spec": config.data,
            "name": data.name,
            "fingerprint": data.fingerprint,
            "left_out": data.files.left_out if data.files else {},
        },
        "preprocessing": data.preprocessing.to_json(),
        "labels": list(data.label_names),
        "training": training,
        "use": list(config.method.use),
        "versions": versions(),
    }
    if config.members == 0:
        values = endpoints.values if progress.best is None else progress.best.values
        ends = [endpoints.layout.weights(row) for row in values]
        return Subspace(config.geometry, architecture, tuple(ends), provenance, kept)
    weights: Sequence[Weights] = [endpoints.layout.weights(row) for row in progress.members or endpoints.values]
    if len(weights) == config.members:
        weights = config.method.finished(weights, config.seed)
    return Subspace(Geometry("simplex", len(weights)), architecture, tuple(weights), provenance, kept)


def validate(subspace: Subspace, data: DataSet, config: TrainingConfig, device: torch.device) -> dict[str, float]:
    """Return the metrics, on the validation images, of the network that is meant to be used alone.

    It is the midpoint, or the last endpoint where the members are meant to answer together, and for an integral.
    """
    alone = config.method.use[0] == "midpoint"
    alpha = subspace.geometry.midpoint if alone else subspace.geometry.ends[-1]
    calibration = draw_calibration_data(
        data.train,
        data.preprocessing,
        name="train",
        count=VALIDATION_CALIBRATION,
    )
    model = as_module(subspace, alpha, calibration, architecture=config.architecture, device=device)
    logits = predict_logits(model, data.validation, data.preprocessing)
    return classification_metrics(softmax(logits), data.validation.labels)
