"""Arrays of images and labels in files: what they must be, and .npy files that stay on disk."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from subspace_serve.errors import DataError

DAMAGED = (
    *(OSError, EOFError, ValueError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    # The header of an array is a Python literal, which NumPy also tries to mend.
    *(SyntaxError, tokenize.TokenError, TypeError),
)
"""What NumPy and zipfile raise where a .npy or .npz file is damaged, or none."""

_GREY = 3
_WITH_CHANNELS = 4
_MOST_CHANNELS = 4
_SEVERAL_EACH = 2


def open_npy(path: Path) -> np.ndarray:
    """Return the array in a .npy file, memory-mapped: only the parts used are read. Nothing is unpickled.

    Raises:
        DataError: the file is missing, not a .npy file, truncated, or holds Python objects.
    """
    try:
        with open(path, "rb") as file:
            shape, _, dtype = read_npy_header(file)
            start = file.tell()
        if dtype.hasobject:
            raise DataError(
                f"{path} holds Python objects, which stay unread (they would have to be unpickled); "
                "save a plain array again with numpy.save"
            )
        expected, found = start + math.prod(shape) * dtype.itemsize, path.stat().st_size
        if found != expected:
            raise DataError(
                f"{path} should be {expected} bytes long, with an array {dtype} of {shape}; found {found} bytes: "
                "it is truncated or damaged; get it again"
            )
        # An empty array cannot be mapped.
        return np.lib.format.open_memmap(path, mode="r") if math.prod(shape) else np.empty(shape, dtype)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; put it there or correct the path") from error
    except DAMAGED as error:
        raise DataError(f"{path} cannot be read as .npy ({error}); it is damaged or no .npy; get it again") from error


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read an open .npy file up to where the data begin; return shape, whether in Fortran order, and type."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def checked_pixels(pixels: np.ndarray, name: str) -> np.ndarray:
    """Return images as uint8 (N, height, width, channels); grey images may lack the last axis.

    Args:
        name: what the array is and where it is stored, for the message.

    Raises:
        DataError: the array is of another type or shape.
    """
    if pixels.ndim == _GREY:
        pixels = pixels[..., np.newaxis]
    fits = pixels.dtype == np.uint8 and pixels.ndim == _WITH_CHANNELS
    if not fits or 0 in pixels.shape[1:] or pixels.shape[3] > _MOST_CHANNELS:
        raise DataError(
            f"{name} must be uint8 of shape (N, height, width) or (N, height, width, channels) with "
            f"a pixel at least and up to {_MOST_CHANNELS} channels; "
            f"found {pixels.dtype} of shape {pixels.shape}; convert them"
        )
    return pixels


def integer_labels(labels: np.ndarray, count: int, name: str) -> np.ndarray:
    """Return the labels of `count` images as int64 (count,); the shape (count, 1) is accepted too.

    Args:
        name: what the array is and where it is stored, for the message.

    Raises:
        DataError: the labels are not integers, not one per image, several per image, or beyond int64.
    """
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu":
        raise DataError(f"{name} must be integers; found {labels.dtype}; number the classes from 0")
    if labels.ndim == _SEVERAL_EACH:
        raise DataError(
            f"{name} give several labels per image; found shape {labels.shape}; networks here choose one class of "
            "several: take a data set with one label per image"
        )
    if labels.shape != (count,):
        raise DataError(
            f"{name} must be one integer per image, shape ({count},); found shape {labels.shape}; "
            "give the index of each image's class"
        )
    if labels.dtype.kind == "u" and count and int(labels.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{name} go up to {int(labels.max())}; number the classes 0, 1, 2, ...")
    return labels.astype(np.int64)


def open_images(path: Path) -> np.ndarray:
    """Return the images in a .npy file, which stay on disk; raises as `open_npy` and `checked_pixels`."""
    return checked_pixels(open_npy(path), f"the images in {path}")


def read_labels(path: Path, count: int) -> np.ndarray:
    """Return the labels in a .npy file, of `count` images; raises as `open_npy` and `integer_labels`."""
    return integer_labels(np.asarray(open_npy(path)), count, f"the labels in {path}")
