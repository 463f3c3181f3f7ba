"""MedMNIST-C: <flag>/<type>.npz with `test_images` and `test_labels`, five severities one after another."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from subspace_serve.data.array import MemoryImages
from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.sources.arrays import DAMAGED, checked_pixels, integer_labels, read_npy_header
from subspace_serve.data.sources.corrupted_sets import SEVERITIES, Contents, CorruptedReader, check_rows
from subspace_serve.data.sources.numbers import numbered
from subspace_serve.data.sources.source import Options, Source
from subspace_serve.errors import DataError

_CHUNK = 1 << 20


def _contents(path: Path) -> Contents:
    """Return the types, whose names differ from set to set."""
    types = sorted(file.stem for file in path.glob("*.npz"))
    sets = sorted({file.parent.name for file in path.glob("*/*.npz")})
    if not types and sets:
        raise DataError(
            f"{path} holds several data sets of medmnist-c; found {', '.join(sets)}; "
            f"name one, as in medmnist-c:{path / sets[0]}:TYPE:SEVERITY"
        )
    return dict.fromkeys(types, SEVERITIES)


def _read(path: Path, corruption: str, severity: int, options: Options) -> Source:
    file = path / f"{corruption}.npz"
    try:
        with zipfile.ZipFile(file) as archive:
            labels, _ = _severity(archive, "test_labels", 0, 1, file)
            pixels, rows = _severity(archive, "test_images", severity - 1, len(SEVERITIES), file)
    except DAMAGED as error:
        raise DataError(f"{file} cannot be read as .npz ({error}); it is damaged; get it again") from error
    pixels = checked_pixels(pixels, f"test_images in {file}")
    all_labels = integer_labels(labels, rows, f"test_labels in {file}")
    images = MemoryImages(pixels, all_labels.reshape(len(SEVERITIES), -1)[severity - 1])
    label_names, splits = numbered({"test": images}, options, file)
    return Source(name="medmnist-c", label_names=label_names, augmentation=Augmentation(), test=splits["test"])


def _severity(archive: zipfile.ZipFile, key: str, place: int, places: int, path: Path) -> tuple[np.ndarray, int]:
    """Return one of `places` equal parts of an array, and how many rows the whole has; only the part is in memory."""
    if f"{key}.npy" not in archive.namelist():
        raise DataError(f"{path} has no {key}; found {', '.join(archive.namelist()) or 'nothing'}; get it again")
    with archive.open(f"{key}.npy") as file:
        shape, columns_first, dtype = read_npy_header(file)
        if dtype.hasobject or columns_first or not shape:
            raise ValueError(f"{key} is no plain list of images but {dtype} of shape {shape}")
        count = check_rows(path, shape[0], places)
        part = np.empty(count * math.prod(shape[1:]) * dtype.itemsize, np.uint8)
        for _ in _chunks(file, place * part.nbytes):
            pass
        filled = 0
        for chunk in _chunks(file, part.nbytes):
            part[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
            filled += len(chunk)
        # Read to the end, where the archive's checksum is compared.
        while file.read(_CHUNK):
            pass
    return part.view(dtype).reshape(count, *shape[1:]), shape[0]


def _chunks(file: IO[bytes], count: int) -> Iterator[bytes]:
    """Yield the next `count` bytes."""
    while count:
        chunk = file.read(min(count, _CHUNK))
        if not chunk:
            raise EOFError("it is truncated")
        yield chunk
        count -= len(chunk)


MEDMNIST_C = CorruptedReader(_contents, _read)
