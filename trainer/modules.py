"""Networks of a subspace as ordinary torch modules, for users of torch and for validation during training."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from subspace_serve.data import Images, Preprocessing
from subspace_serve.errors import CheckpointError
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics import Statistics
from subspace_serve.space.place import Alpha
from subspace_serve.space.subspace import Subspace, Weights, mismatch
from trainer.architectures import build, check_trusted
from trainer.preprocessing import preprocess
from trainer.recalibration import recalibrate_batchnorm
from trainer.state import load_kept, trained_parameters

_BLOCK = 64


def weights_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Return copies of a network's trained parameters: its coordinates in weight space."""
    return {name: parameter.detach().cpu().numpy().copy() for name, parameter in trained_parameters(model).items()}


def load_weights(model: nn.Module, weights: Weights) -> None:
    """Copy `weights` into a network's parameters.

    Raises:
        CheckpointError: a name is missing or unknown, or a shape or type differs.
    """
    parameters = trained_parameters(model)
    problem = mismatch(weights, {name: parameter.detach().cpu().numpy() for name, parameter in parameters.items()})
    if problem:
        raise CheckpointError(f"the weights do not fit the network: {problem}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(np.asarray(weights[name], order="C")))


def collapsed(
    subspace: Subspace, alpha: Alpha, *, extrapolate: bool = False, architecture: str | None = None
) -> nn.Module:
    """Build the ordinary network with weights P(alpha), in eval mode, with the BatchNorm statistics of a new network.

    Args:
        subspace: where alpha lies.
        alpha: a place in it.
        extrapolate: allow a place a little outside a line.
        architecture: the name of the user's own architecture, if the subspace has one; naming it lets it be imported.

    Raises:
        GeometryError: alpha lies outside the domain or has the wrong length.
        CheckpointError: the weights do not fit the architecture.
        TrainingError: the network has no place for the state that the run kept.
        ArchitectureError: the architecture is the user's own and was not named, or it cannot be built.
    """
    weights = subspace.weights(alpha, extrapolate=extrapolate)
    check_trusted(subspace.architecture, architecture)
    model = load_kept(build(subspace.architecture), subspace.buffers)
    load_weights(model, weights)
    return model.eval()


def as_module(
    subspace: Subspace,
    alpha: Alpha,
    calibration: CalibrationData,
    *,
    extrapolate: bool = False,
    architecture: str | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Return the network P(alpha) in eval mode, with BatchNorm statistics of its own.

    Raises:
        GeometryError, CheckpointError, TrainingError, ArchitectureError: as `collapsed`.
        CalibrationError: the statistics cannot be computed.
    """
    model = collapsed(subspace, alpha, extrapolate=extrapolate, architecture=architecture).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    recalibrate_batchnorm(
        model, (preprocess(pixels, calibration.preprocessing, device) for pixels in calibration.pixels())
    )
    return model


def with_statistics(model: nn.Module, skeleton: Skeleton, statistics: Statistics) -> nn.Module:
    """Copy these statistics into a network's BatchNorm layers; return the network."""
    for layer in skeleton.batchnorms:
        module = model.get_submodule(layer.name)
        for buffer, slot in ((module.running_mean, layer.mean), (module.running_var, layer.variance)):
            buffer.copy_(torch.from_numpy(statistics.values[slot.where]))  # type: ignore[operator, union-attr]
    return model


@torch.inference_mode()
def predict_logits(model: nn.Module, images: Images, preprocessing: Preprocessing) -> np.ndarray:
    """Return a network's logits for every image, float32 (N, classes); it must be in eval mode."""
    device = next(model.parameters()).device
    return np.concatenate(
        [model(preprocess(pixels, preprocessing, device)).float().cpu().numpy() for pixels, _ in images.batches(_BLOCK)]
    )
