"""Images as files."""

from __future__ import annotations

import io
from pathlib import Path
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


def save_noise(path: Path, seed: int, size: tuple[int, int] = (24, 16)) -> Path:
    """Write noise of a width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path
