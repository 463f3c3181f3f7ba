"""From uint8 pixels to what a network takes: the normalisation that training and the exported graph share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from subspace_serve.errors import DataError

_PIXEL_VALUES = 256
_CHUNK = 1024


@dataclass(frozen=True)
class Preprocessing:
    """Mean and standard deviation per channel, of pixels scaled to [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise DataError(
                f"preprocessing needs one mean and one standard deviation per channel; "
                f"found {len(self.mean)} and {len(self.std)}; give as many of each"
            )
        if not all(deviation > 0 for deviation in self.std):
            raise DataError(f"preprocessing divides by the standard deviation; found {self.std}; give positive numbers")

    def to_json(self) -> dict[str, Any]:
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Preprocessing:
        """Read what `to_json` wrote.

        Raises:
            DataError: a key is missing, or a value is not a list of numbers.
        """
        try:
            return cls(
                mean=tuple(float(value) for value in document["mean"]),
                std=tuple(float(value) for value in document["std"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"preprocessing must hold the lists `mean` and `std`; found {document!r}; write it with to_json"
            ) from error


def preprocess(images: Tensor, preprocessing: Preprocessing, device: torch.device | str | None = None) -> Tensor:
    """Return (pixel / 255 - mean) / std.

    Args:
        images: uint8 (N, height, width, channels).
        preprocessing: constants, one of each per channel.
        device: where the result is wanted; the bytes travel, not the four times larger floats.

    Returns:
        float32 (N, channels, height, width) in channels_last memory format, which is the input's layout.
    """
    device = images.device if device is None else device
    mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
    std = torch.tensor(preprocessing.std, dtype=torch.float64)
    scale = (1 / (255 * std)).to(device, torch.float32).view(-1, 1, 1)
    shift = (-mean / std).to(device, torch.float32).view(-1, 1, 1)
    pixels = images.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return pixels.to(torch.float32).mul_(scale).add_(shift)


def measure_preprocessing(images: Tensor) -> Preprocessing:
    """Return the mean and standard deviation of each channel of `images`, uint8 (N, height, width, channels).

    Counted from histograms, so that it is exact and the same on every machine. A channel that never changes
    gets the smallest deviation that a pixel can show, 1/255, instead of a division by zero.
    """
    channels = images.shape[3]
    histogram = torch.zeros(channels, _PIXEL_VALUES, dtype=torch.int64)
    for chunk in images.split(_CHUNK):
        for channel in range(channels):
            histogram[channel] += torch.bincount(chunk[..., channel].flatten(), minlength=_PIXEL_VALUES)
    values = torch.arange(_PIXEL_VALUES, dtype=torch.float64) / 255
    frequency = histogram.double() / histogram.sum(dim=1, keepdim=True)
    mean = frequency @ values
    variance = (frequency * (values - mean[:, None]) ** 2).sum(dim=1)
    std = variance.sqrt().clamp(min=1 / 255)
    return Preprocessing(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
