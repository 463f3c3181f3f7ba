"""Spatter: drops of water, or of mud, on the lens. Images are RGB, as in `noise`."""

from __future__ import annotations

import cv2
import numpy as np

from subspace_serve.data.corruptions.filters import smooth
from subspace_serve.data.corruptions.noise import WHITE, Floats, Generators, normals
from subspace_serve.data.corruptions.severities import Spatter

_WATER = np.array([175, 238, 238], np.float32)
_MUD = np.array([63, 42, 20], np.float32)

# The filter that lights each drop from one side.
_RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
_FARTHEST = 20
_LEAST_MUD = 0.8


def spatter(images: Floats, generators: Generators, spatter: Spatter) -> Floats:
    """Add pale turquoise water, or cover with brown mud, where smoothed noise is above the threshold."""
    layers = spatter.mean + spatter.deviation * normals((*images.shape[:3],), generators)
    cover = _mud if spatter.mud else _water
    return np.stack(
        [cover(image, smooth(layer, spatter.blur), spatter) for image, layer in zip(images, layers, strict=True)]
    )


def _mud(image: Floats, layer: Floats, spatter: Spatter) -> Floats:
    opacity = smooth((layer > spatter.threshold).astype(np.float32), spatter.edge)
    opacity[opacity < _LEAST_MUD] = 0
    return image + (_MUD - image) * opacity[..., None]


def _water(image: Floats, layer: Floats, spatter: Spatter) -> Floats:
    # Values above white wrap around to black, as in the published sets: otherwise about a third of Tiny-ImageNet-C's
    # images of severity 3 would differ.
    liquid = np.where(layer < spatter.threshold, 0, layer * np.float32(WHITE)).astype(np.int64).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, _FARTHEST), (3, 3)).astype(np.uint8)
    relief = cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, _RELIEF)
    opacity = liquid * cv2.blur(relief, (3, 3)).astype(np.float32)
    most = opacity.max()
    if most == 0:
        # A small image may have no drop.
        return image
    return image + (opacity * np.float32(spatter.edge / most))[..., None] * _WATER
