"""From an opened image file to pixels: the one way for training, measuring, serving and asking.

A network that is trained on pixels made in one way and asked about pixels made in another answers worse, so there is
no second one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from subspace_serve.errors import DataError

# Formats that Pillow decodes by itself; PostScript and the like would start other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
# What Pillow opens with room for 32 bits although the files have 16 at most.
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
_WHITE_IS_ZERO = 0

# How a picture is turned upright, by what the camera noted.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# From 128 pixels on, the middle 224/256 of a picture is looked at, as is customary for ImageNet.
_LARGE = 128
_BORDER = (1 - 224 / 256) / 2

# Of `random_area`: fractions of the picture's area, width to height, and how often to try.
_AREAS = (0.08, 1.0)
_RATIOS = (3 / 4, 4 / 3)
_TRIES = 10

Box = tuple[float, float, float, float]
"""An area of a picture: left, top, right, bottom, in pixels."""


def prepared(picture: Image.Image, channels: int) -> Image.Image:
    """Return a picture upright, as its camera noted (EXIF), in 8 bits, with the channels wanted.

    Where transparency is not wanted it is dropped: what shows is the colour that is stored there. Of an animation the
    first frame is taken.

    Args:
        picture: as it was opened; it is decoded here, if it is not yet.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises:
        DataError: its pixels are numbers of which nobody knows what is white.
        Exception: of any kind, where the file is damaged.
    """
    return upright(picture).convert(_MODES[channels])


def upright(picture: Image.Image) -> Image.Image:
    """Return a picture upright and in 8 bits, in its own mode otherwise.

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
    except Exception:  # what is damaged is the camera's note alone, in any way
        turn = None
    return picture if turn is None else picture.transpose(turn)


def fitted(picture: Image.Image, height: int, width: int, *, cropped: bool = False) -> np.ndarray:
    """Return the middle of a picture at a size (bilinear, antialiased); one of that size is taken as it is.

    Args:
        picture: what `prepared` returns.
        height, width: wanted, in pixels.
        cropped: it is the middle of a larger picture already, so that no border is cut off.

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
    """Draw an area of a picture of this size, as the customary random resized crop of training does.

    Its size is uniform from 0.08 of the picture's to all of it, its width to height log-uniform from 3/4 to 4/3. Where
    ten draws do not fit into a long picture, its middle is taken.
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
    """Return images, uint8 (N, height, width, channels), at another size (bilinear, antialiased), nothing cut off."""
    channels = pixels.shape[3]
    if channels not in (1, 3):
        # A channel at a time: Pillow would take a last one for transparency and weigh the others by it.
        return np.concatenate([resize(channel, height, width) for channel in np.split(pixels, channels, 3)], axis=3)
    resized = np.empty((len(pixels), height, width, channels), np.uint8)
    for target, image in zip(resized, pixels, strict=True):
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        target[:] = _array(picture.resize((width, height), Image.Resampling.BILINEAR))
    return resized


def _array(picture: Image.Image) -> np.ndarray:
    return np.array(picture, dtype=np.uint8).reshape(picture.height, picture.width, -1)
