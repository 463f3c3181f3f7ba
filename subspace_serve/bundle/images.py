"""Image files to the pixels of a graph's input. Reads bytes only: no path or address inside a file is followed."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from subspace_serve.bundle.manifest import Input
from subspace_serve.errors import DataError

# Formats that Pillow decodes by itself; PostScript and the like would start other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 25_000_000

# Each scan of a progressive JPEG passes over all pixels, in a handful of bytes where it changes none: without a limit a
# small file keeps a thread for minutes. Ordinary files have about ten. Within compressed data the marker cannot occur.
_SCAN = b"\xff\xda"
_MAX_SCANS = 100

# From 128 pixels on, a resized image is cut to its middle 224/256, as evaluation on folders of images does.
_LARGE = 128
_BORDER = (1 - 224 / 256) / 2

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class ImageTooLargeError(DataError):
    """An image with more pixels than the limit, found before it is decompressed."""


def decode_image(data: bytes, input: Input, *, resize: bool = True, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode one image file into an array of `input.shape` and `input.dtype`.

    The orientation stored by cameras (EXIF) is applied, colours become the model's channels (grey, RGB or RGBA; of an
    animation the first frame). With `resize`, an image of another size is cut to the model's proportions around its
    centre and scaled (bilinear, antialiased), as evaluation does; without it, it is refused.

    Raises `ImageTooLargeError` over `max_pixels`, `DataError` for anything that is not a readable image or does not
    fit.
    """
    mode = _MODES.get(input.channels)
    if mode is None:
        raise DataError(f"a model of {input.channels} channels takes no image files; send pixel arrays")
    try:
        image = _open(data, max_pixels)
        image = ImageOps.exif_transpose(_eight_bit(image)).convert(mode)
    except DataError:
        raise
    except Exception as error:  # on hostile bytes the decoders raise errors of every kind
        raise DataError(
            f"an image cannot be decoded ({type(error).__name__}); send a whole PNG, JPEG or WebP file"
        ) from None
    size = (input.width, input.height)
    if image.size != size:
        if not resize:
            raise DataError(
                f"an image is {image.width}x{image.height} pixels, the model takes {input.width}x{input.height}; "
                "send that size, or allow resizing"
            )
        border = _BORDER if min(size) >= _LARGE else 0.0
        image = ImageOps.fit(image, size, method=Image.Resampling.BILINEAR, bleed=border)
    pixels = np.asarray(image, dtype=np.uint8).reshape(input.height, input.width, input.channels)
    if input.dtype == "uint8":
        return pixels
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


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


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's own conversion clips it."""
    if image.mode not in _SIXTEEN_BIT_MODES:
        return image
    values = np.clip(np.asarray(image), 0, 65535) // 257
    scaled = Image.fromarray(values.astype(np.uint8))
    scaled.info = image.info
    return scaled
