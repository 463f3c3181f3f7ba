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


@dataclass(frozen=True)
class Variation:
    """What was drawn for each image of a batch; None where that is switched off.

    Attributes:
        places: the crop's top and left in the padded image, integers (2, N).
        mirrored: whether it is mirrored, bool (N,).
    """

    places: np.ndarray | None
    mirrored: np.ndarray | None


def draw_variation(
    augmentation: Augmentation, generator: np.random.Generator, whole: int, part: slice | None = None
) -> Variation:
    """Draw how the `part` of a batch of `whole` images varies; nothing is drawn for what is switched off."""
    part = part or slice(None)
    places = (
        generator.integers(2 * augmentation.padding + 1, size=(2, whole))[:, part] if augmentation.padding else None
    )
    mirrored = generator.random(whole)[part] < 0.5 if augmentation.flip else None
    return Variation(places, mirrored)


def augment(
    pixels: np.ndarray,
    augmentation: Augmentation,
    generator: np.random.Generator | None,
    whole: int | None = None,
    part: slice | None = None,
) -> np.ndarray:
    """Return a batch, uint8 (N, height, width, channels), with each image cropped and flipped on its own.

    One gather cuts every crop out of the padded batch. The `part` of a batch of `whole` images gets the same crops and
    flips as it would in the whole batch. Without a generator every batch varies in the same way.
    """
    drawn = draw_variation(augmentation, generator or np.random.default_rng(0), whole or len(pixels), part)
    if drawn.places is not None:
        pixels = _crops(pixels, augmentation.padding, *drawn.places)
    if drawn.mirrored is not None:
        images, pixels = pixels, pixels.copy()
        pixels[drawn.mirrored] = images[drawn.mirrored][:, :, ::-1]
    return pixels


def _crops(pixels: np.ndarray, margin: int, top: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Pad images with a margin of zeros on every side, and cut out a crop of the original size at each place."""
    count, height, width, channels = pixels.shape
    padded = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    # Columns and channels lie one after another, so that a crop's rows are copied whole.
    rows = padded.reshape(count, height + 2 * margin, -1)
    windows = np.lib.stride_tricks.sliding_window_view(rows, (height, width * channels), axis=(1, 2))
    return windows[np.arange(count), top, left * channels].reshape(pixels.shape)
