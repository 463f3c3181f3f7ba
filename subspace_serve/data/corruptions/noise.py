"""Noise: Gaussian, shot (Poisson), impulse (salt and pepper) and speckle (multiplicative).

As everywhere in this package, images are float32 (N, height, width, channels) in grey levels from 0 to 255, there
is one generator per image, and results may leave that range: they are clipped later.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Generators = Sequence[Generator]

WHITE = 255.0


def gaussian_noise(images: Floats, generators: Generators, deviation: float) -> Floats:
    """Add normal noise of `deviation`, a fraction of the range."""
    return images + np.float32(WHITE * deviation) * normals(images.shape, generators)


def shot_noise(images: Floats, generators: Generators, photons: float) -> Floats:
    """Add Poisson noise: pixels count photons, and a white one expects `photons` of them."""
    expected = images * (photons / WHITE)
    counts = np.empty_like(images)
    for count, rate, generator in zip(counts, expected, generators, strict=True):
        count[...] = generator.poisson(rate)
    return counts * np.float32(WHITE / photons)


def impulse_noise(images: Floats, generators: Generators, share: float) -> Floats:
    """Set a `share` of all values, each channel on its own, to black or white with equal odds."""
    draws = uniforms(images.shape, generators)
    return np.where(draws < share / 2, np.float32(0), np.where(draws < share, np.float32(WHITE), images))


def speckle_noise(images: Floats, generators: Generators, deviation: float) -> Floats:
    """Add normal noise in proportion to the grey level; `deviation` is that at white, a fraction of the range."""
    return images + images * (np.float32(deviation) * normals(images.shape, generators))


def normals(shape: tuple[int, ...], generators: Generators) -> Floats:
    """Return standard normal draws of a shape (N, ...), each image's from its own generator."""
    draws = np.empty(shape, np.float32)
    for part, generator in zip(draws, generators, strict=True):
        generator.standard_normal(dtype=np.float32, out=part)
    return draws


def uniforms(shape: tuple[int, ...], generators: Generators) -> Floats:
    """Return draws between 0 and 1 of a shape (N, ...), each image's from its own generator."""
    draws = np.empty(shape, np.float32)
    for part, generator in zip(draws, generators, strict=True):
        generator.random(dtype=np.float32, out=part)
    return draws
