"""Decoding image files to pixels of one size, in this process or in workers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as transforms

from subspace_serve.errors import DataError

MODES = {1: "L", 3: "RGB"}
_DEEP_MODES = ("I", "F")
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
# From 128 pixels on, evaluation looks at the middle 224/256 of a picture, as is customary for ImageNet.
_LARGE = 128
_CROP_AREA = [0.08, 1.0]
_CROP_RATIO = [3 / 4, 4 / 3]


@dataclass(frozen=True)
class Decoder:
    """How a picture becomes pixels: uint8 of shape (size, size, channels).

    Attributes:
        size: height and width wanted.
        channels: 3 (RGB) or 1 (grey).
        cropped: the files are the middles of pictures already, as ImageNet-C's are, so that nothing is cut off.
    """

    size: int
    channels: int
    cropped: bool = False

    def decode(self, path: Path, seed: int | None = None) -> Tensor:
        """Return the middle of a picture, or with a seed a random area of it (`RandomResizedCrop`'s).

        Raises:
            DataError: the file cannot be read as an image of 8-bit pixels.
        """
        try:
            image = _opened(path).convert(MODES[self.channels])
        except _UNREADABLE as error:
            raise DataError(f"{path} cannot be read as an image ({error}); replace it or take it away") from error
        cut = self._middle(image) if seed is None else self._random_area(image, seed)
        return torch.from_numpy(np.array(cut)).view(self.size, self.size, self.channels)

    def _middle(self, image: Image.Image) -> Image.Image:
        with_margin = self.size >= _LARGE and not self.cropped
        shorter_side = round(self.size * 256 / 224) if with_margin else self.size
        return transforms.center_crop(transforms.resize(image, [shorter_side]), [self.size, self.size])

    def _random_area(self, image: Image.Image, seed: int) -> Image.Image:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            area = RandomResizedCrop.get_params(image, _CROP_AREA, _CROP_RATIO)
        return transforms.resized_crop(image, *area, [self.size, self.size])


def decoded_size(path: Path) -> tuple[int, int] | str:
    """Decode a picture whole; return its width and height, or why it cannot be read."""
    try:
        return _opened(path).size
    except UnidentifiedImageError:
        return "not an image"
    except _UNREADABLE as error:
        return getattr(error, "strerror", None) or str(error)


def _opened(path: Path) -> Image.Image:
    """Return a decoded picture. Raises one of `_UNREADABLE`."""
    with Image.open(path) as opened:
        if opened.mode.startswith(_DEEP_MODES):
            raise ValueError(f"its pixels are not 8-bit but of mode {opened.mode}")
        opened.load()
        return opened


class _Batches(Dataset[Tensor | DataError]):
    """Whole batches of decoded files, so that a worker hands over one tensor a batch."""

    def __init__(
        self,
        decoder: Decoder,
        root: Path,
        files: np.ndarray,
        batches: Sequence[np.ndarray],
        seeds: Tensor | None,
    ) -> None:
        self.decoder = decoder
        self.root = root
        self.files = files
        self.batches = batches
        self.seeds = seeds

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Tensor | DataError:
        # Raised in a worker, an error would arrive wrapped in a traceback; so it is handed over like a batch.
        try:
            return torch.stack([self._decode(index) for index in self.batches[number]])
        except DataError as error:
            return error

    def _decode(self, index: int) -> Tensor:
        seed = None if self.seeds is None else int(self.seeds[index])
        return self.decoder.decode(self.root / os.fsdecode(self.files[index]), seed)


def decode_batches(
    decoder: Decoder,
    root: Path,
    files: np.ndarray,
    batches: Sequence[np.ndarray],
    *,
    seeds: Tensor | None,
    workers: int,
) -> Iterator[Tensor]:
    """Yield the pixels of each batch in order, uint8 (B, size, size, channels).

    Args:
        files: encoded paths relative to `root`, bytes (N,).
        batches: the indices of each batch, not empty.
        seeds: one per file for random areas, int64 (N,); None for the middle.
        workers: processes; 0 decodes in this one. They end with the iteration.

    Raises:
        DataError: a file cannot be decoded; it is named.
    """
    loader = DataLoader(
        _Batches(decoder, root, files, batches, seeds),
        batch_size=None,
        num_workers=min(workers, len(batches)),
        collate_fn=_as_it_is,
        # Otherwise the loader draws a seed from the global generator that no worker needs.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _as_it_is(batch: Any) -> Any:
    return batch
