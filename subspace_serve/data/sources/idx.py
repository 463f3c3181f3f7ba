"""IDX files of MNIST and sets in its layout: train-images-idx3-ubyte and so on, unpacked or compressed."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from subspace_serve.data.array import MemoryImages
from subspace_serve.data.sources.source import first_with
from subspace_serve.errors import DataError

PREFIXES = {"train": "train", "test": "t10k"}
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
_UNSIGNED_BYTE = 8


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Return an IDX file of bytes as a uint8 array of `rank` axes; it is gzip-compressed if its name ends in .gz.

    An IDX file is two zero bytes, the type, the number of axes, their sizes as big-endian 32-bit numbers, and
    the data.

    Raises:
        DataError: the file cannot be read, is not IDX, has another rank or not as many bytes as it says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); it may be truncated; get it again") from error
    if content[:4] != bytes((0, 0, _UNSIGNED_BYTE, rank)):
        raise DataError(
            f"{path} is not an IDX file of bytes with {rank} axes; it begins with {content[:4].hex()}; get it again"
        )
    start = 4 + 4 * rank
    shape = tuple(int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4))
    if len(content) != start + math.prod(shape):
        raise DataError(f"{path} should hold an array of {shape}; it is {len(content)} bytes long; get it again")
    return np.frombuffer(bytearray(content), np.uint8, offset=start).reshape(shape)


def read_split(folder: Path, split: str) -> MemoryImages:
    """Return the grey images and labels of `train` or `test`.

    Raises:
        DataError: as `read_idx`.
    """
    images = read_idx(_file(folder, f"{PREFIXES[split]}-{_IMAGES}"), rank=3)
    labels = read_idx(_file(folder, f"{PREFIXES[split]}-{_LABELS}"), rank=1)
    return MemoryImages(images[..., np.newaxis], labels)


def folder_of(places: Iterable[Path]) -> Path | None:
    """Return the first of `places` that holds training images; unpacked files are preferred."""
    places, name = list(places), f"{PREFIXES['train']}-{_IMAGES}"
    return first_with(name, places) or first_with(f"{name}.gz", places)


def _file(folder: Path, name: str) -> Path:
    """Return the unpacked file, as torchvision leaves it, or the compressed one."""
    unpacked = folder / name
    return unpacked if unpacked.is_file() else folder / f"{name}.gz"
