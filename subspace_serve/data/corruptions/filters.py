"""Linear filters: Gaussian smoothing, smearing along a line, and magnification.

Kernels and matrices that depend only on sizes and severities are computed once and kept.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from scipy import sparse

from subspace_serve.data.corruptions.noise import Floats
from subspace_serve.data.corruptions.severities import Motion

# Weights below this fraction of the sum change no pixel by as much as a hundredth of a grey level.
_LEAST_WEIGHT = 1e-5


@lru_cache(maxsize=64)
def gaussian_weights(deviation: float, truncate: float = 4.0) -> Floats:
    """Return the weights of a sampled Gaussian, cut off at `truncate` deviations; they sum to 1."""
    radius = int(truncate * deviation + 0.5)
    if radius == 0:
        return np.ones(1, np.float32)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def smooth(image: Floats, deviation: float) -> Floats:
    """Return (height, width[, channels]) under a Gaussian; pixels beyond the edge are those at it."""
    weights = gaussian_weights(deviation)
    if len(weights) == 1:
        return image
    smoothed = cv2.sepFilter2D(image, -1, weights, weights, borderType=cv2.BORDER_REPLICATE)
    # OpenCV drops a single channel's axis.
    return np.asarray(smoothed, np.float32).reshape(image.shape)


@lru_cache(maxsize=32)
def smoothing_matrix(size: int, deviation: float, truncate: float) -> Floats:
    """Return the matrix (size, size) that smooths a line of pixels mirrored at both edges (edge pixels twice).

    It is a matrix because the deviation may be as large as the image, and a kernel several times larger.
    """
    weights = gaussian_weights(deviation, truncate)
    radius = len(weights) // 2
    places = np.arange(size)[:, None] + np.arange(-radius, radius + 1)[None, :]
    places %= 2 * size
    places = np.minimum(places, 2 * size - 1 - places)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], places), weights)
    return matrix.astype(np.float32)


def smear(image: Floats, motion: Motion, angle: float) -> Floats:
    """Return (height, width[, channels]) smeared in the direction `angle`, in degrees, as ImageMagick does.

    A one-sided Gaussian: every pixel is a weighted mean of itself and those that follow it on a line, each place
    rounded to a pixel. Pixels beyond the edge are those at it.
    """
    kernel, anchor = _line_kernel(motion, angle)
    smeared = cv2.filter2D(image, -1, kernel, anchor=anchor, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smeared, np.float32).reshape(image.shape)


def _line_kernel(motion: Motion, angle: float) -> tuple[Floats, tuple[int, int]]:
    """Return the kernel of `smear` and its anchor, the place (column, row) of the pixel itself."""
    weights = _one_sided_weights(motion)
    steps = np.arange(len(weights))
    columns = np.ceil(steps * math.cos(math.radians(angle)) - 0.5).astype(int)
    rows = np.ceil(steps * math.sin(math.radians(angle)) - 0.5).astype(int)
    left, top = int(columns.min()), int(rows.min())
    kernel = np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), np.float32)
    np.add.at(kernel, (rows - top, columns - left), weights)
    return kernel, (-left, -top)


@lru_cache(maxsize=32)
def _one_sided_weights(motion: Motion) -> Floats:
    weights = np.exp(-0.5 * (np.arange(2 * motion.radius + 1) / motion.deviation) ** 2)
    weights = weights[weights > _LEAST_WEIGHT * weights.sum()]
    return (weights / weights.sum()).astype(np.float32)


@lru_cache(maxsize=256)
def magnification(size: int, factor: float) -> tuple[np.ndarray, Floats]:
    """Return how a line of `size` pixels is magnified about its centre and cut back to `size`.

    Two arrays of `size`: the pixel to the left of each place, and the weight of the one to its right. The crop
    comes first: the middle, `size` / `factor` pixels rounded up, is stretched so that its outermost pixels keep
    their centres, and any excess is trimmed evenly.
    """
    middle = math.ceil(size / factor)
    stretched = max(round(middle * factor), size)
    start = (size - middle) // 2
    trimmed = (stretched - size) // 2
    places = (np.arange(size) + trimmed) * ((middle - 1) / max(stretched - 1, 1))
    left = np.minimum(places.astype(int), max(middle - 2, 0))
    return left + start, (places - left).astype(np.float32)


def magnification_matrix(size: int, factor: float) -> sparse.csr_array:
    """Return `magnification` as a sparse matrix (size, size)."""
    left, weight = magnification(size, factor)
    rows = np.arange(size)
    right = np.minimum(left + 1, size - 1)
    entries = np.concatenate([1 - weight, weight])
    places = (np.concatenate([rows, rows]), np.concatenate([left, right]))
    return sparse.csr_array((entries, places), shape=(size, size), dtype=np.float32)
