"""BatchNorm recalibration, and the proof that it happened.

A collapsed network's BatchNorm layers have no statistics of their own: those that training tracked mix many places
of the subspace. They are recomputed with one pass over data (appendix D.3, after Izmailov et al. 2018).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from subspace_serve.errors import CalibrationError

TOLERATED_Z = 4.0
"""How many standard errors, as a root mean square over a layer's channels, stored statistics may lie off."""


def batchnorm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the BatchNorm layers that keep running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    }


def recalibrate_batchnorm(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Recompute every BatchNorm layer's running mean and variance from `batches`.

    Equals `torch.optim.swa_utils.update_bn` when all batches have one size; otherwise a batch counts by its size.
    Only BatchNorm layers are in train mode meanwhile (no dropout noise); every mode is restored, also when the pass
    is interrupted, and then the old statistics are restored too. A network without BatchNorm is left as it is and
    the batches are not read.

    Args:
        model: any network; its weights do not change.
        batches: preprocessed float images of shape (N, C, H, W), N of 2 or more. Batches are moved to the device of
            the network's parameters.

    Returns:
        The number of images used (0 for a network without BatchNorm).

    Raises:
        CalibrationError: there are no batches, a batch has one image only or cannot be run through the network, or
            the statistics come out not finite.
    """
    layers = list(batchnorm_layers(model).values())
    if not layers:
        return 0
    device = layers[0].running_mean.device  # type: ignore[union-attr]
    count = 0
    with _restored_on_error(layers), _batchnorm_training(model, layers):
        for layer in layers:
            layer.reset_running_stats()
        for batch in batches:
            if len(batch) < 2:
                raise CalibrationError(f"a calibration batch has 2 images or more, for a variance; got {len(batch)}")
            count += len(batch)
            # A cumulative average in which each batch weighs as many images as it has.
            for layer in layers:
                layer.momentum = len(batch) / count
            _forward(model, batch.to(device))
        if count == 0:
            raise CalibrationError("calibration data is empty; give at least 2 images")
        for name, layer in batchnorm_layers(model).items():
            if not (torch.isfinite(layer.running_mean).all() and torch.isfinite(layer.running_var).all()):  # type: ignore[arg-type]
                raise CalibrationError(f"BatchNorm layer {name} got statistics that are not finite from this data")
    return count


@torch.no_grad()
def _forward(model: nn.Module, batch: Tensor) -> None:
    try:
        model(batch)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CalibrationError(
            f"calibration images of shape {tuple(batch.shape)} do not fit the network: {reason}"
        ) from error


@contextlib.contextmanager
def _batchnorm_training(model: nn.Module, layers: list[_BatchNorm]) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    try:
        model.eval()
        for layer in layers:
            layer.train()
        yield
    finally:
        for module, training in modes:
            module.training = training
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


@contextlib.contextmanager
def _restored_on_error(layers: list[_BatchNorm]) -> Iterator[None]:
    saved = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in layers]
    try:
        yield
    except BaseException:
        for layer, buffers in zip(layers, saved, strict=True):
            for name, buffer in layer.named_buffers():
                buffer.copy_(buffers[name])
        raise


@dataclass(frozen=True)
class LayerAgreement:
    """How well a BatchNorm layer's stored statistics agree with fresh ones, in standard errors.

    `mean_z` and `variance_z` are root mean squares over channels of (fresh - stored) / standard error.
    """

    layer: str
    mean_z: float
    variance_z: float


def check_calibration(model: nn.Module, batches: Iterable[Tensor], *, calibration_count: int) -> list[LayerAgreement]:
    """Check that stored BatchNorm statistics are those of the network itself, on images it was not calibrated with.

    Each layer's input is measured on fresh images, one mean and one second moment an image and channel; their
    spread over images gives the sampling error of both the fresh and the stored statistics. Stale, interpolated and
    default statistics lie many standard errors off.

    Args:
        model: a recalibrated network.
        batches: preprocessed float images of shape (N, C, H, W), disjoint from the calibration images.
        calibration_count: how many images the stored statistics were computed from.

    Returns:
        One entry a layer, in the network's order.

    Raises:
        CalibrationError: a layer is off by more than `TOLERATED_Z` standard errors; the worst is named. Also when
            fewer than 16 images are given, from which no sampling error can be told.
    """
    layers = batchnorm_layers(model)
    if not layers:
        return []
    device = next(iter(layers.values())).running_mean.device  # type: ignore[union-attr]
    moments: dict[str, list[Tensor]] = {name: [] for name in layers}
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: moments[name].append(_moments(inputs[0])))
        for name, layer in layers.items()
    ]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        for batch in batches:
            _forward(model, batch.to(device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    agreements = [_agreement(name, layer, moments[name], calibration_count) for name, layer in layers.items()]
    worst = max(agreements, key=lambda agreement: max(agreement.mean_z, agreement.variance_z))
    if max(worst.mean_z, worst.variance_z) > TOLERATED_Z:
        raise CalibrationError(
            f"BatchNorm layer {worst.layer} holds statistics that are not this network's: on fresh images its mean is "
            f"{worst.mean_z:.1f} and its variance {worst.variance_z:.1f} standard errors off (at most "
            f"{TOLERATED_Z:g}); recalibrate it on data like that which it will see"
        )
    return agreements


def _moments(inputs: Tensor) -> Tensor:
    """Return each image's mean and mean square a channel. Shape (N, C, ...) to (2, N, C)."""
    values = inputs.detach().flatten(2).double() if inputs.dim() > 2 else inputs.detach().double().unsqueeze(-1)
    return torch.stack([values.mean(-1), values.square().mean(-1)])


def _agreement(name: str, layer: _BatchNorm, collected: list[Tensor], calibration_count: int) -> LayerAgreement:
    means, squares = torch.cat(collected, dim=1) if collected else torch.empty(2, 0, layer.num_features)
    count = len(means)
    if count < 16:
        raise CalibrationError(f"checking a calibration takes 16 images or more that were not used for it; got {count}")
    stored_mean, stored_variance = layer.running_mean.double(), layer.running_var.double()  # type: ignore[union-attr]
    fresh_mean = means.mean(0)
    # About the fresh mean, an image's contribution to the variance is its mean square deviation.
    deviations = squares - 2 * fresh_mean * means + fresh_mean.square()
    fresh_variance = deviations.mean(0)
    scale = math.sqrt(1 / count + 1 / max(calibration_count, 1))
    # A floor of a thousandth of a standard deviation: float32 and batch-wise averaging, not sampling.
    deviation = fresh_variance.clamp_min(layer.eps).sqrt()
    mean_error = (means.std(0) * scale).clamp_min(1e-3 * deviation)
    variance_error = (deviations.std(0) * scale).clamp_min(2e-3 * deviation.square())
    return LayerAgreement(
        name,
        ((fresh_mean - stored_mean) / mean_error).square().mean().sqrt().item(),
        ((fresh_variance - stored_variance) / variance_error).square().mean().sqrt().item(),
    )
