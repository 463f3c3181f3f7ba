"""Images as files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import ExifTags, Image


def encoded(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """Return a picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def png(pixels: np.ndarray, **options: Any) -> bytes:
    """Return (height, width) or (height, width, channels) pixels as a PNG file."""
    return encoded(Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels), **options)


def turned(orientation: int) -> Image.Exif:
    """Return a camera's note of how it was held."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif
