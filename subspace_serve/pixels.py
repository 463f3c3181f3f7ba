"""From an opened image file to pixels, in the same way for training, measuring, serving and the client.

A network that was trained on pixels made in one way is less accurate on pixels made in another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from subspace_serve.errors import DataError

# Formats that Pillow decodes by itself; for PostScript and the like it would start other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
# Formats that Pillow opens in a 32-bit mode although their files have at most 16 bits.
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
_WHITE_IS_ZERO = 0

# How a picture is turned upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# From a size of 128 pixels on, only the central 224/256 of a picture is used, as is customary for ImageNet.
_LARGE = 128
_BORDER = (1 - 224 / 256) / 2

# For `random_area`: fractions of the picture's area, ratios of width to height, and the number of tries.
_AREAS = (0.08, 1.0)
_RATIOS = (3 / 4, 4 / 3)
_TRIES = 10

Box = tuple[float, float, float, float]
"""An area of a picture: left, top, right, bottom, in pixels."""


def prepared(picture: Image.Image, channels: int) -> Image.Image:
    """Return a picture upright (by its EXIF orientation), in 8 bits, with the channels wanted.

    With 1 or 3 channels transparency is dropped, and the colour stored in transparent pixels shows. An animation gives
    its first frame.

    Args:
        picture: as it was opened; it is decoded here, unless it has been already.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises:
        DataError: its pixel values are 32-bit integers or floating-point numbers without a known range.
        Exception: of any kind, where the file is damaged.
    """
    return upright(picture).convert(_MODES[channels])


def upright(picture: Image.Image) -> Image.Image:
    """Return a picture upright and in 8 bits, otherwise in its own mode.

    Grey of 16 bits (12 in some TIFF files) is scaled, since Pillow's own conversion clips it.

    Raises:
        DataError, Exception: as `prepared`.
    """
    sixteen_bits = picture.mode in _SIXTEEN_BIT_MODES or (
        picture.mode == "I" and picture.format in _SIXTEEN_BIT_FORMATS
    )
    if not sixteen_bits and picture.mode in ("I", "F"):
        kind = "32-bit integers" if picture.mode == "I" else "floating-point numbers"
        raise DataError(
            f"an image has pixels of mode {picture.mode}, {kind} without a known range; save it with 8 or 16 bits"
        )
    turned = _turned(picture)
    if not sixteen_bits:
        return turned
    return Image.fromarray(_eight_bits(np.asarray(turned), getattr(picture, "tag_v2", {})))


def _eight_bits(values: np.ndarray, tags: Mapping[int, Any]) -> np.ndarray:
    """Return grey values of 16 bits as 8; a TIFF file's tags may say that they have 12, or that 0 is white."""
    step = 16 if tags.get(ExifTags.Base.BitsPerSample) == (12,) else 257
    scaled = np.clip(values // step, 0, 255).astype(np.uint8)
    return 255 - scaled if tags.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO else scaled


def _turned(picture: Image.Image) -> Image.Image:
    picture.load()
    try:
        turn = _TURNS.get(int(picture.getexif().get(ExifTags.Base.Orientation) or 1))
    except Exception:  # only the EXIF data are damaged, and Pillow raises errors of every kind
        turn = None
    return picture if turn is None else picture.transpose(turn)


def fitted(picture: Image.Image, height: int, width: int, *, cropped: bool = False) -> np.ndarray:
    """Return the centre of a picture at a size (bilinear, antialiased); one that has the size is left as it is.

    Args:
        picture: what `prepared` returns.
        height, width: the size wanted, in pixels.
        cropped: it is a central crop already, so that no border is cut off.

    Returns:
        uint8 (height, width, channels).
    """
    if picture.size != (width, height):
        border = _BORDER if min(height, width) >= _LARGE and not cropped else 0.0
        picture = ImageOps.fit(picture, (width, height), method=Image.Resampling.BILINEAR, bleed=border)
    return _array(picture)


def cut(picture: Image.Image, box: Box, height: int, width: int) -> np.ndarray:
    """Return an area of a picture at a size (bilinear, antialiased), uint8 (height, width, channels)."""
    return _array(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))


def random_area(height: int, width: int, generator: np.random.Generator) -> Box:
    """Draw an area of a picture of this size, as the usual random resized crop for training does.

    Its fraction of the picture's area is uniform from 0.08 to 1, its ratio of width to height log-uniform from 3/4 to
    4/3. Where none of ten draws fits into the picture, the centre is taken, within these ratios.
    """
    low, high = np.log(_RATIOS)
    for _ in range(_TRIES):
        area = height * width * generator.uniform(*_AREAS)
        ratio = math.exp(generator.uniform(low, high))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            left, top = int(generator.integers(width - wide + 1)), int(generator.integers(height - tall + 1))
            return left, top, left + wide, top + tall
    wide = min(width, round(height * _RATIOS[1]))
    tall = min(height, round(width / _RATIOS[0]))
    left, top = (width - wide) // 2, (height - tall) // 2
    return left, top, left + wide, top + tall


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the centres of images, uint8 (N, height, width, channels), at another size, as `fitted` does.

    Images in arrays are as their owner cut them: only what the proportions need is cut off, and no border.
    """
    channels = pixels.shape[3]
    if channels not in (1, 3):
        # One channel at a time: Pillow would take a last one for transparency and weight the others by it.
        return np.concatenate([resize(channel, height, width) for channel in np.split(pixels, channels, 3)], axis=3)
    resized = np.empty((len(pixels), height, width, channels), np.uint8)
    for target, image in zip(resized, pixels, strict=True):
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        target[:] = fitted(picture, height, width, cropped=True)
    return resized


def _array(picture: Image.Image) -> np.ndarray:
    return np.array(picture, dtype=np.uint8).reshape(picture.height, picture.width, -1)
