"""How training images vary: crops and flips, a batch at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """How training images vary, each image on its own.

    Attributes:
        padding: zero pixels added on every side before a crop of the original size is cut out.
        flip: mirror an image left to right with probability 1/2.
        resized_crop: cut out a random area of random aspect ratio and resize it (`pixels.random_area`). Only
            for folders of files, whose pictures are larger than what the network takes.
    """

    padding: int = 0
    flip: bool = False
    resized_crop: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def augment(
    pixels: np.ndarray,
    augmentation: Augmentation,
    generator: np.random.Generator | None,
    whole: int | None = None,
    part: slice | None = None,
) -> np.ndarray:
    """Return a batch, uint8 (N, height, width, channels), with each image cropped and flipped on its own.

    One gather cuts every crop out of the padded batch. Nothing is drawn for what is switched off. The `part` of a batch
    of `whole` images gets the same crops and flips as it would in the whole batch. Without a generator every batch
    varies in the same way.
    """
    generator = generator or np.random.default_rng(0)
    whole, part = whole or len(pixels), part or slice(None)
    if augmentation.padding:
        places = generator.integers(2 * augmentation.padding + 1, size=(2, whole))[:, part]
        pixels = _crops(pixels, augmentation.padding, *places)
    if augmentation.flip:
        mirrored = generator.random(whole)[part] < 0.5
        images, pixels = pixels, pixels.copy()
        pixels[mirrored] = images[mirrored][:, :, ::-1]
    return pixels


def _crops(pixels: np.ndarray, margin: int, top: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Pad images with a margin of zeros on every side, and cut out a crop of the original size at each place."""
    count, height, width, channels = pixels.shape
    padded = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    # Columns and channels lie one after another, so that a crop's rows are copied whole.
    rows = padded.reshape(count, height + 2 * margin, -1)
    windows = np.lib.stride_tricks.sliding_window_view(rows, (height, width * channels), axis=(1, 2))
    return windows[np.arange(count), top, left * channels].reshape(pixels.shape)
