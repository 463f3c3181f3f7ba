"""How training images vary: crops and flips, a batch at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from subspace_serve.errors import DataError


@dataclass(frozen=True)
class Augmentation:
    """How training images vary, each image on its own.

    Attributes:
        padding: zero pixels added on every side before a crop of the original size is cut out.
        flip: mirror an image left to right with probability 1/2.
        resized_crop: cut out a random area of random aspect ratio and resize it (`RandomResizedCrop`). Only
            for folders of files, whose pictures are larger than what the network takes.
    """

    padding: int = 0
    flip: bool = False
    resized_crop: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def augment(
    pixels: Tensor,
    augmentation: Augmentation,
    generator: torch.Generator | None,
    whole: int | None = None,
    part: slice | None = None,
) -> Tensor:
    """Return a batch, uint8 (N, height, width, channels), with each image cropped and flipped on its own.

    One gather cuts every crop out of the padded batch. Nothing is drawn for what is switched off. Of a `part` of a
    batch of `whole` images the crops and flips are those that the whole would have had.

    Raises:
        DataError: `resized_crop` is asked for, which needs the files.
    """
    if augmentation.resized_crop:
        raise DataError(
            "random resized crops are for folders of image files; "
            "found images in memory; use Augmentation(padding=..., flip=...)"
        )
    count, height, width, _ = pixels.shape
    whole, part = whole or count, part or slice(None)
    if augmentation.padding:
        margin = augmentation.padding
        padded = functional.pad(pixels, (0, 0, margin, margin, margin, margin))
        crops = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
        top, left = torch.randint(2 * margin + 1, (2, whole), generator=generator)[:, part]
        pixels = crops[torch.arange(count), top, left]
    if augmentation.flip:
        mirrored = torch.rand(whole, generator=generator)[part] < 0.5
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(2), pixels)
    return pixels
