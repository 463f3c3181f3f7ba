"""Image files to the pixels of a graph's input. Reads bytes only: no path or address inside a file is followed."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from subspace_serve.bundle.manifest import Input
from subspace_serve.errors import DataError
from subspace_serve.pixels import FORMATS, fitted, prepared

MAX_PIXELS = 25_000_000
"""The limit for images from outside."""
MAX_OWN_PIXELS = 2 * 89_478_485
"""The limit for the user's own images: what Pillow opens at most, in training too."""

# Each scan of a progressive JPEG passes over all pixels, and takes only a few bytes where it changes none: without a
# limit a small file could occupy a thread for minutes. Ordinary files have about ten scans. The marker cannot occur
# within compressed data.
_SCAN = b"\xff\xda"
_MAX_SCANS = 100

_CHANNELS = (1, 3, 4)


class ImageTooLargeError(DataError):
    """An image with more pixels than the limit, found before it is decompressed."""


def decode_image(data: bytes, input: Input, *, resize: bool = True, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode one image file into an array of `input.shape` and `input.dtype`, as `subspace_serve.pixels` does.

    The orientation that a camera stored (EXIF) is applied, and colours become the model's channels (grey, RGB or RGBA);
    an animation gives its first frame. With `resize`, an image of another size is cropped to the model's proportions
    around its centre and scaled (bilinear, antialiased), as in training and evaluation; without it, it is refused.

    Raises `ImageTooLargeError` over `max_pixels`, `DataError` for anything that is not a readable image or does not
    fit.
    """
    if input.channels not in _CHANNELS:
        raise DataError(f"a model of {input.channels} channels takes no image files; send pixel arrays")
    try:
        image = prepared(_open(data, max_pixels), input.channels)
    except DataError:
        raise
    except Exception as error:  # on hostile bytes the decoders raise errors of every kind
        raise DataError(
            f"an image cannot be decoded ({type(error).__name__}); send a whole PNG, JPEG or WebP file"
        ) from None
    if image.size != (input.width, input.height) and not resize:
        raise DataError(
            f"an image is {image.width}x{image.height} pixels, the model takes {input.width}x{input.height}; "
            "send that size, or allow resizing"
        )
    pixels = fitted(image, input.height, input.width)
    if input.dtype == "uint8":
        return pixels
    scaled: np.ndarray = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
    return scaled


def _open(data: bytes, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageTooLargeError(f"an image has more than {max_pixels} pixels; send a smaller one") from None
    if image.width * image.height > max_pixels:
        raise ImageTooLargeError(
            f"an image has {image.width}x{image.height} pixels, the limit is {max_pixels}; send a smaller one"
        )
    if image.format in ("JPEG", "MPO") and data.count(_SCAN) > _MAX_SCANS:
        raise DataError(f"a JPEG image has more than {_MAX_SCANS} scans; save it anew, as an ordinary one")
    image.load()
    return image
