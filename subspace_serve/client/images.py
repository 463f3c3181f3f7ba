"""Images as callers have them: arrays, paths, the bytes of files, alone or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.client.catalogue import InputFormat
from subspace_serve.client.errors import ClientError

Image = np.ndarray | bytes | Path
"""An array of one image or of several, an image file's bytes, or its path."""


class MisfitError(ClientError):
    """Pixels that are not what the server's graphs take."""


def listed(images: Any) -> list[Image]:
    """Return images as a list, checked for their kind. Raises `ClientError`."""
    if isinstance(images, np.ndarray | bytes | bytearray | memoryview | str | os.PathLike):
        return [_image(images)]
    if not isinstance(images, Sequence):
        raise ClientError(f"images are {_kind(images)}; {_EXPECTED}")
    if not images:
        raise ClientError("there are no images; give at least one")
    return [_image(image) for image in images]


def read_files(images: Sequence[Image]) -> list[np.ndarray | bytes]:
    """Return images with what is in the files at their paths. Raises `ClientError` for one that cannot be read."""
    return [_read(image) if isinstance(image, Path) else image for image in images]


def batch(arrays: Sequence[np.ndarray], input: InputFormat) -> np.ndarray:
    """Return arrays, each of one image or of several, as one (N, ...) of the server's type. Raises `MisfitError`."""
    parts = [_fitted(array, input) for array in arrays]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


_EXPECTED = "give an array, an image file's path or bytes, or a list of these"


def _image(image: Any) -> Image:
    if isinstance(image, np.ndarray | bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return Path(os.fsdecode(image))
    raise ClientError(f"an image is {_kind(image)}; {_EXPECTED}")


def _kind(value: Any) -> str:
    return f"of the type {type(value).__module__}.{type(value).__qualname__}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ClientError(
            f"the image file {path} cannot be read ({getattr(error, 'strerror', None) or error}); "
            "give a path on this machine, since addresses are not fetched"
        ) from None


def _fitted(array: np.ndarray, input: InputFormat) -> np.ndarray:
    images = array[np.newaxis] if array.shape == input.shape else array
    if images.shape[1:] != input.shape or not len(images):
        raise MisfitError(
            f"got pixels of shape {array.shape}, the server takes {input.shape}, or (N, ...) of these, {input.layout}; "
            "bring them to that size, or send an image file, which the server fits"
        )
    if input.dtype == "uint8":
        fits = images.dtype == np.uint8 or (images.dtype.kind in "iu" and images.min() >= 0 and images.max() <= 255)
        expected = "whole numbers from 0 to 255 (np.uint8)"
    else:
        fits = images.dtype.kind == "f" and bool(images.min() >= 0 and images.max() <= 1)
        expected = "numbers from 0 to 1 (np.float32)"
    if not fits:
        span = f" from {images.min()} to {images.max()}" if images.dtype.kind in "iuf" else ""
        raise MisfitError(f"got pixels of type {array.dtype}{span}, the server takes {expected}; convert them")
    return images.astype(input.wire_type, copy=False)
