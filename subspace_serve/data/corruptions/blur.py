"""Blurs: Gaussian, defocus, glass, motion and zoom. Images and generators as in `noise`."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from scipy import sparse

from subspace_serve.data.corruptions.filters import magnification_matrix, smear, smooth
from subspace_serve.data.corruptions.noise import Floats, Generators
from subspace_serve.data.corruptions.severities import Disk, Glass, Motion, Zooms


def gaussian_blur(images: Floats, generators: Generators, deviation: float) -> Floats:
    """Smooth with a Gaussian."""
    return np.stack([smooth(image, deviation) for image in images])


def defocus_blur(images: Floats, generators: Generators, disk: Disk) -> Floats:
    """Average over a disk, as a lens that is out of focus does."""
    kernel = _disk_kernel(disk)
    return np.stack([np.asarray(cv2.filter2D(image, -1, kernel)).reshape(image.shape) for image in images])


@lru_cache(maxsize=32)
def _disk_kernel(disk: Disk) -> Floats:
    # The window is the published one, at least 17 pixels wide: it determines how the disk's edge is smoothed.
    large = disk.radius > 8
    reach = int(disk.radius) if large else 8
    squares = np.arange(-reach, reach + 1) ** 2
    inside = (squares[:, None] + squares[None, :] <= disk.radius**2).astype(np.float32)
    side = 5 if large else 3
    kernel = cv2.GaussianBlur(inside / inside.sum(), (side, side), disk.edge)
    used = np.flatnonzero(kernel.any(axis=0))
    return np.ascontiguousarray(kernel[used[0] : used[-1] + 1, used[0] : used[-1] + 1])


def glass_blur(images: Floats, generators: Generators, glass: Glass) -> Floats:
    """Displace pixels at random between two Gaussian blurs."""
    # The scene behind the glass is rounded down to whole grey levels, as published.
    blurred = np.floor(gaussian_blur(images, generators, glass.deviation) + np.float32(1e-3))
    count, height, width, channels = images.shape
    pixels = blurred.reshape(count * height * width, channels)
    rows, columns = (_displaced(size, glass.reach) for size in (height, width))
    shape = (glass.rounds, 2, len(rows), len(columns))
    # As published, a displacement may be -reach but not +reach.
    moves = np.stack([generator.integers(-glass.reach, glass.reach, shape) for generator in generators])
    places = np.arange(count * height * width).reshape(count, height, width)
    window = np.ix_(np.arange(count), rows, columns)
    for index in range(glass.rounds):
        sources = places.copy()
        sources[window] += moves[:, index, 0] * width + moves[:, index, 1]
        pixels = pixels[_followed(sources.ravel())]
    return gaussian_blur(pixels.reshape(images.shape), generators, glass.deviation)


def _displaced(size: int, reach: int) -> np.ndarray:
    """The rows or columns whose pixels are displaced: not so near an edge that a source could lie beyond it."""
    return np.arange(reach + 1, size - reach + 1)


def _followed(sources: np.ndarray) -> np.ndarray:
    """Return which of the old pixels ends up where, once each place has taken the pixel at its source.

    The published loop runs from the last place to the first and copies in place, so that a place whose source
    comes later in memory receives what that source has already received. Such chains are followed to their ends
    all at once, each round doubling the length that is covered.
    """
    own = np.arange(len(sources))
    ends = np.where(sources > own, sources, own)
    while True:
        further = ends[ends]
        if np.array_equal(further, ends):
            return sources[ends]
        ends = further


def motion_blur(images: Floats, generators: Generators, motion: Motion) -> Floats:
    """Smear along a line whose angle is drawn from -45 to 45 degrees."""
    angles = [generator.uniform(-45, 45) for generator in generators]
    return np.stack([smear(image, motion, angle) for image, angle in zip(images, angles, strict=True)])


def zoom_blur(images: Floats, generators: Generators, zooms: Zooms) -> Floats:
    """Average the image with its magnifications about the centre."""
    _, height, width, channels = images.shape
    vertical, horizontal = _zoom_matrices(height, width, zooms)
    factors = vertical.shape[0] // height
    result = np.empty_like(images)
    for index, image in enumerate(images):
        # Rows first, for all factors at once; then columns, which sums over the factors as well.
        stretched = (vertical @ image.reshape(height, width * channels)).reshape(factors, height, width, channels)
        by_column = stretched.transpose(0, 2, 1, 3).reshape(factors * width, height * channels)
        result[index] = (horizontal @ by_column).reshape(width, height, channels).transpose(1, 0, 2)
    return (result + images) / np.float32(factors + 1)


@lru_cache(maxsize=16)
def _zoom_matrices(height: int, width: int, zooms: Zooms) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return the magnifications of all factors: one below the other for rows, side by side for columns."""
    factors = [float(factor) for factor in np.arange(1, zooms.stop, zooms.step)]
    vertical = sparse.vstack([magnification_matrix(height, factor) for factor in factors], format="csr")
    horizontal = sparse.hstack([magnification_matrix(width, factor) for factor in factors], format="csr")
    return vertical, horizontal
