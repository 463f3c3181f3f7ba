"""BatchNorm recalibration in torch.

A collapsed network's BatchNorm layers have no usable statistics: those that training tracked mix many places of the
subspace. They are recomputed in one pass over data (appendix D.3, after Izmailov et al. 2018).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from subspace_serve.errors import CalibrationError


def batchnorm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the BatchNorm layers that keep running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    }


def recalibrate_batchnorm(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Recompute every BatchNorm layer's running mean and variance from `batches`.

    Equals `torch.optim.swa_utils.update_bn` when all batches have the same size; otherwise a batch is weighted by its
    size. Only BatchNorm layers are in train mode meanwhile (no dropout noise). Every mode is restored afterwards, and
    after an error the old statistics are too. For a network without BatchNorm nothing is done, and the batches are not
    read.

    Args:
        model: any network; its weights do not change.
        batches: preprocessed float images of shape (N, C, H, W), N of 2 or more. They are moved to the network's
            device.

    Returns:
        The number of images used (0 for a network without BatchNorm).

    Raises:
        CalibrationError: there are no batches, a batch has fewer than two images or cannot be run through the network,
            or the resulting statistics are not finite.
    """
    layers = list(batchnorm_layers(model).values())
    if not layers:
        return 0
    device = layers[0].running_mean.device  # type: ignore[union-attr]
    count = 0
    with _recalibrating(model, layers):
        for layer in layers:
            layer.reset_running_stats()
        for batch in batches:
            if len(batch) < 2:
                raise CalibrationError(f"a calibration batch has 2 images or more, for a variance; got {len(batch)}")
            count += len(batch)
            # A cumulative average in which each batch is weighted by its number of images.
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
def _recalibrating(model: nn.Module, layers: list[_BatchNorm]) -> Iterator[None]:
    """Put the layers alone into train mode; every mode is restored, and after an error the old statistics too."""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    buffers = [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers()]
    try:
        model.eval()
        for layer in layers:
            layer.train()
        yield
    except BaseException:
        for buffer, before in buffers:
            buffer.copy_(before)
        raise
    finally:
        for module, training in modes:
            module.training = training
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
