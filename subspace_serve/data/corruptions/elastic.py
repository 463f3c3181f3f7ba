"""Elastic deformation: a random affine map, then a smooth random displacement of every pixel."""

from __future__ import annotations

import cv2
import numpy as np

from subspace_serve.data.corruptions.filters import smoothing_matrix
from subspace_serve.data.corruptions.noise import Floats, Generators, uniforms
from subspace_serve.data.corruptions.severities import Elastic


def elastic_transform(images: Floats, generators: Generators, elastic: Elastic) -> Floats:
    """Deform images (N, height, width, channels), one generator each; beyond the edges they are mirrored."""
    count, height, width, _ = images.shape
    side = min(height, width)
    corners = (uniforms((count, 3, 2), generators) * 2 - 1) * np.float32(side * elastic.affine)
    affine = [_affine(image, corner) for image, corner in zip(images, corners, strict=True)]
    if elastic.amplitude == 0:
        return np.stack(affine)
    displacements = uniforms((count, 2, height, width), generators) * 2 - 1
    displacements = (
        smoothing_matrix(height, side * elastic.deviation, 3.0)
        @ displacements
        @ smoothing_matrix(width, side * elastic.deviation, 3.0).T
    ) * np.float32(side * elastic.amplitude)
    columns = displacements[:, 0] + np.arange(width, dtype=np.float32)
    rows = displacements[:, 1] + np.arange(height, dtype=np.float32)[:, None]
    return np.stack([_displaced(*triple) for triple in zip(affine, columns, rows, strict=True)])


def _displaced(image: Floats, columns: Floats, rows: Floats) -> Floats:
    """Take every pixel from the place given for it (bilinear)."""
    displaced = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(displaced, np.float32).reshape(image.shape)


def _affine(image: Floats, moves: Floats) -> Floats:
    """Move three corners of a square in the middle, a third of the image's side from the centre, by `moves`."""
    height, width = image.shape[:2]
    reach = min(height, width) // 3
    centre = np.array([width // 2, height // 2], np.float32)
    corners = centre + np.array([[reach, reach], [reach, -reach], [-reach, -reach]], np.float32)
    matrix = cv2.getAffineTransform(corners, corners + moves)
    moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.float32).reshape(image.shape)
