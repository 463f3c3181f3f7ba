"""Networks of a subspace as ordinary torch modules, for those who want them, and for validation between epochs."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from subspace_serve.data import Images, Preprocessing
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.space.geometry import Alpha
from subspace_serve.space.subspace import Subspace
from trainer.preprocessing import preprocess
from trainer.recalibration import recalibrate_batchnorm

_BLOCK = 64


def as_module(
    subspace: Subspace,
    alpha: Alpha,
    calibration: CalibrationData,
    *,
    extrapolate: bool = False,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Return the network P(alpha) in eval mode, with BatchNorm statistics of its own.

    Raises:
        GeometryError: alpha lies outside the domain.
        CalibrationError: the statistics cannot be computed.
    """
    model = subspace.collapse(alpha, extrapolate=extrapolate).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    recalibrate_batchnorm(
        model, (preprocess(pixels, calibration.preprocessing, device) for pixels in calibration.pixels())
    )
    return model


@torch.inference_mode()
def predict_logits(model: nn.Module, images: Images, preprocessing: Preprocessing) -> np.ndarray:
    """Return a network's logits for every image. Float32 (N, classes)."""
    device = next(model.parameters()).device
    return np.concatenate(
        [model(preprocess(pixels, preprocessing, device)).float().cpu().numpy() for pixels, _ in images.batches(_BLOCK)]
    )
