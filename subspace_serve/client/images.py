"""Images as callers have them: arrays, paths, the bytes of files, Pillow's images, one or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from subspace_serve.client.catalogue import InputFormat
from subspace_serve.client.errors import ClientError
from subspace_serve.client.pictures import is_picture, png

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Image: TypeAlias = "np.ndarray | bytes | Path | Picture"
"""An array of one image or of several, an image file's bytes, its path, or one of Pillow's images."""


class MisfitError(ClientError):
    """Pixels that are not what the server's graphs take."""


def listed(images: Any) -> list[Image]:
    """Return one image or several as a list. Raises `ClientError` for anything that is not an image."""
    if isinstance(images, np.ndarray | bytes | bytearray | memoryview | str | os.PathLike) or is_picture(images):
        return [_image(images)]
    if not isinstance(images, Sequence):
        raise ClientError(f"images are {_kind(images)}; {_EXPECTED}")
    if not images:
        raise ClientError("there are no images; give at least one")
    return [_image(image) for image in images]


def read_files(images: Sequence[Image]) -> list[np.ndarray | bytes]:
    """Return images with the bytes of files in place of paths and of Pillow's images.

    Raises `ClientError` for one that cannot be read.
    """
    return [image if isinstance(image, np.ndarray | bytes) else _read(image) for image in images]


def batch(arrays: Sequence[np.ndarray], input: InputFormat) -> np.ndarray:
    """Return arrays, each of one image or of several, as one (N, ...) of the server's type. Raises `MisfitError`."""
    parts = [_fitted(array, input) for array in arrays]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


_EXPECTED = "give an array, an image file's path or bytes, a Pillow image, or a list of these"


def _image(image: Any) -> Image:
    if isinstance(image, np.ndarray | bytes) or is_picture(image):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return Path(os.fsdecode(image))
    raise ClientError(f"an image is {_kind(image)}; {_EXPECTED}")


def _kind(value: Any) -> str:
    return f"of the type {type(value).__module__}.{type(value).__qualname__}"


def _read(image: Path | Picture) -> bytes:
    return _contents(image) if isinstance(image, Path) else png(image)


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ClientError(
            f"the image file {path} cannot be read ({getattr(error, 'strerror', None) or error}); "
            "give a path on this machine, since addresses are not fetched"
        ) from None


def _fitted(array: np.ndarray, input: InputFormat) -> np.ndarray:
    images = _with_channel(array, input)
    images = images[np.newaxis] if images.shape == input.shape else images
    if images.shape[1:] != input.shape or not len(images):
        grey = f" or {(input.height, input.width)}" if input.channels == 1 else ""
        raise MisfitError(
            f"got pixels of shape {array.shape}, the server takes {input.shape}{grey}, or (N, ...) of these, "
            f"{input.layout}; bring them to that size, or send an image file, which the server fits"
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


def _with_channel(array: np.ndarray, input: InputFormat) -> np.ndarray:
    """Return grey images of shape (H, W) or (N, H, W) with the axis of the server's only channel."""
    is_grey = input.channels == 1 and array.ndim < 4 and array.shape[-2:] == (input.height, input.width)
    if not is_grey or array.shape == input.shape:
        return array
    return np.expand_dims(array, -1 if input.layout == "NHWC" else -3)
