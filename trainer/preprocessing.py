"""From uint8 pixels to what a network takes, in torch, on any device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from subspace_serve.data import Preprocessing
from subspace_serve.data.preprocessing import scale_and_shift


def preprocess(
    images: np.ndarray | Tensor, preprocessing: Preprocessing, device: torch.device | str | None = None
) -> Tensor:
    """Return (pixel / 255 - mean) / std.

    Args:
        images: uint8 (N, height, width, channels).
        preprocessing: constants, one of each per channel.
        device: where the result is wanted, the images' own when None; the bytes are sent there, not the floats, which
            are four times as large.

    Returns:
        float32 (N, channels, height, width) in channels_last memory format, which is the input's layout.
    """
    images = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
    device = images.device if device is None else device
    scale, shift = (torch.from_numpy(part).to(device).view(-1, 1, 1) for part in scale_and_shift(preprocessing))
    pixels = images.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return pixels.to(torch.float32).mul_(scale).add_(shift)
