"""Corrupting a batch: which function makes which corruption, the generators, grey images, and workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from subspace_serve.cores import available_cores
from subspace_serve.data.corruptions import blur, digital, noise, weather
from subspace_serve.data.corruptions.elastic import elastic_transform
from subspace_serve.data.corruptions.names import (
    CORRUPTIONS,
    PRESETS,
    check_name,
    check_severity,
    preset_for,
)
from subspace_serve.data.corruptions.noise import WHITE, Floats, Generators
from subspace_serve.data.corruptions.photographs import frost_photographs, require_frost
from subspace_serve.data.corruptions.severities import TABLES, Parameters
from subspace_serve.data.corruptions.spatter import spatter
from subspace_serve.errors import DataError

Bytes = NDArray[np.uint8]

SMALLEST = 8
"""The smallest side, in pixels, of an image that can be corrupted."""

# How many float32 values are corrupted at once: enough to amortise NumPy's overhead, few enough for the cache.
_CHUNK_VALUES = 1 << 17
# Rounding may leave a value a little short of a whole number, and it must not lose a grey level for that.
_GUARD = np.float32(1e-3)


@dataclass(frozen=True)
class Corruption:
    """How one of the 19 corruptions is made.

    Attributes:
        apply: takes images, float32 (N, height, width, channels) in grey levels, a generator per image, and the
            parameters of a severity; returns such images, perhaps out of range.
        random: whether it draws from the generators; otherwise it gets an empty list of them.
        coloured: whether it adds or changes colour, and so takes RGB images only.
    """

    apply: Callable[[Floats, Generators, Any], Floats]
    random: bool = True
    coloured: bool = False


_REGISTRY: Mapping[str, Corruption] = {
    "gaussian_noise": Corruption(noise.gaussian_noise),
    "shot_noise": Corruption(noise.shot_noise),
    "impulse_noise": Corruption(noise.impulse_noise),
    "defocus_blur": Corruption(blur.defocus_blur, random=False),
    "glass_blur": Corruption(blur.glass_blur),
    "motion_blur": Corruption(blur.motion_blur),
    "zoom_blur": Corruption(blur.zoom_blur, random=False),
    "snow": Corruption(weather.snow),
    "frost": Corruption(weather.frost, coloured=True),
    "fog": Corruption(weather.fog),
    "brightness": Corruption(digital.brightness, random=False),
    "contrast": Corruption(digital.contrast, random=False),
    "elastic_transform": Corruption(elastic_transform),
    "pixelate": Corruption(digital.pixelate, random=False),
    "jpeg_compression": Corruption(digital.jpeg_compression, random=False),
    "speckle_noise": Corruption(noise.speckle_noise),
    "gaussian_blur": Corruption(blur.gaussian_blur, random=False),
    "spatter": Corruption(spatter, coloured=True),
    "saturate": Corruption(digital.saturate, random=False, coloured=True),
}


def available() -> tuple[str, ...]:
    """Return the corruptions that can be made here: all, or all but frost when its photographs are not installed."""
    return CORRUPTIONS if frost_photographs() else tuple(name for name in CORRUPTIONS if name != "frost")


def corrupt(
    images: Bytes,
    name: str,
    severity: int,
    *,
    preset: str | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> Bytes:
    """Return the images under a corruption, in the same shape and type.

    Every image is corrupted on its own, by a generator seeded with its bytes and shape, `seed`, `name`, `severity`
    and the preset. So the same image becomes the same bytes wherever it lies, with any number of workers.

    A grey image is corrupted as a grey scene: noise is drawn once for its one channel, and where a corruption adds
    colour, the luminance of the result is kept. As published, results are rounded down to whole grey levels. Elastic
    deformation scales with the smaller side, of which its table holds fractions; all other lengths are in pixels.

    Args:
        images: uint8, grey (N, height, width) or (N, height, width, 1), or RGB (N, height, width, 3).
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        preset: one of `PRESETS`; None takes the one that suits the size, see `preset_for`.
        seed: any integer; it decides the noise.
        workers: threads; None takes one per processor.

    Raises:
        DataError: an unknown name, severity or preset; images of another type or shape, or with a side below 8
            pixels; fewer than one worker; frost without its photographs.
    """
    check_name("corruption", name, CORRUPTIONS)
    check_severity(severity)
    _check_images(images)
    count, height, width = images.shape[:3]
    preset = preset_for(height, width) if preset is None else preset
    check_name("severity preset", preset, PRESETS)
    if workers is not None and workers < 1:
        raise DataError(f"corrupting takes one worker at least; found {workers}; give 1 or more, or None")
    if name == "frost":
        require_frost()
    draws = _REGISTRY[name].random
    parameters = TABLES[preset][name][severity - 1]
    key = f"{seed}/{name}/{severity}/{preset}/{height}x{width}x{images[:1].size // max(height * width, 1)}"

    pixels = np.ascontiguousarray(images).reshape(count, height, width, -1) if count else images
    corrupted = np.empty_like(pixels)
    size = max(_CHUNK_VALUES // max(pixels[:1].size, 1), 1)
    starts = range(0, count, size)

    def corrupt_chunk(start: int) -> None:
        chunk = pixels[start : start + size]
        generators = [_generator(image, key) for image in chunk] if draws else []
        corrupted[start : start + size] = corrupt_with(chunk, name, parameters, generators)

    workers = min(workers or available_cores(), len(starts))
    if workers <= 1:
        for start in starts:
            corrupt_chunk(start)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(corrupt_chunk, starts))
    return corrupted.reshape(images.shape)


def corrupt_with(pixels: Bytes, name: str, parameters: Parameters, generators: Generators) -> Bytes:
    """Return images, uint8 (N, height, width, 1 or 3), under `name` with these parameters and generators."""
    corruption = _REGISTRY[name]
    grey = pixels.shape[-1] == 1
    values = pixels.astype(np.float32)
    if grey and corruption.coloured:
        values = np.repeat(values, 3, axis=-1)
    values = np.clip(corruption.apply(values, generators, parameters), 0, WHITE)
    if grey and corruption.coloured:
        values = digital.luminance(values)
    return (values + _GUARD).astype(np.uint8)


def _generator(image: Bytes, key: str) -> Generator:
    digest = hashlib.blake2b(image.tobytes(), digest_size=16, key=hashlib.sha256(key.encode()).digest())
    return Generator(PCG64(int.from_bytes(digest.digest(), "little")))


def _check_images(images: Bytes) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        found = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise DataError(f"images to corrupt must be a numpy array of uint8; found {found}; convert them")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise DataError(
            "images to corrupt must be of shape (N, height, width), (N, height, width, 1) or (N, height, width, 3); "
            f"found {images.shape}; reshape them"
        )
    if min(images.shape[1:3]) < SMALLEST:
        raise DataError(
            f"images to corrupt must be {SMALLEST} pixels wide and high at least; found {images.shape[1]} by "
            f"{images.shape[2]} in shape {images.shape}; enlarge them, or put N first"
        )
