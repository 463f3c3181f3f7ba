"""From uint8 pixels to what a network takes: the normalisation that training and the exported graph share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace_serve.data.images import in_chunks
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
        if not all(math.isfinite(number) for number in (*self.mean, *self.std)):
            raise DataError(f"preprocessing needs finite, positive numbers; found {self.mean} and {self.std}")
        if not all(deviation > 0 for deviation in self.std):
            raise DataError(f"preprocessing divides by the standard deviation; found {self.std}; give positive numbers")

    def of_channels(self, channels: int) -> Preprocessing:
        """Return the constants for the same images with other channels: grey ones repeated, or RGB turned grey.

        The mean of grey is exact; its deviation is, too, where the three colours vary together, and else a little less.
        """
        if len(self.mean) == channels:
            return self
        if len(self.mean) == 1:
            return Preprocessing(self.mean * channels, self.std * channels)
        return Preprocessing((_luminance(self.mean),), (_luminance(self.std),))

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


def scale_and_shift(preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Return the factor for a pixel from 0 to 255, and what is then added; float32 (channels,) each."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def measure_preprocessing(images: np.ndarray) -> Preprocessing:
    """Return the mean and standard deviation of each channel of `images`, uint8 (N, height, width, channels).

    Computed from integer histograms, so that it is exact and the same on every machine. A deviation is at least 1/255,
    one grey level, since pixels are divided by it.
    """
    channels = images.shape[3]
    histograms = np.zeros((channels, _PIXEL_VALUES), np.int64)
    for chunk in in_chunks(images, _CHUNK):
        for channel in range(channels):
            histograms[channel] += np.bincount(chunk[..., channel].ravel(), minlength=_PIXEL_VALUES)
    measured = [_mean_and_deviation(histogram.tolist()) for histogram in histograms]
    return Preprocessing(mean=tuple(mean for mean, _ in measured), std=tuple(std for _, std in measured))


def _luminance(colours: Sequence[float]) -> float:
    """Return the grey of red, green and blue, as Pillow converts them (ITU-R 601-2)."""
    return math.fsum(weight * value for weight, value in zip((0.299, 0.587, 0.114), colours, strict=True))


def _mean_and_deviation(histogram: list[int]) -> tuple[float, float]:
    count = sum(histogram)
    total = sum(value * times for value, times in enumerate(histogram))
    squares = sum(value**2 * times for value, times in enumerate(histogram))
    largest = _PIXEL_VALUES - 1
    deviation = math.sqrt(count * squares - total**2) / (largest * count)
    return total / (largest * count), max(deviation, 1 / largest)
