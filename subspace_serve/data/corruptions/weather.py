"""Weather: snow, frost and fog. Images and generators as in `noise`."""

from __future__ import annotations

import numpy as np

from subspace_serve.data.corruptions.digital import luminance
from subspace_serve.data.corruptions.filters import magnification, smear
from subspace_serve.data.corruptions.noise import WHITE, Floats, Generators, normals, uniforms
from subspace_serve.data.corruptions.photographs import frost_layers
from subspace_serve.data.corruptions.severities import Fog, Frost, Snow


def snow(images: Floats, generators: Generators, snow: Snow) -> Floats:
    """Whiten the scene and let flakes fall, smeared in a direction from -135 to -45 degrees, from two sides."""
    _, height, width, _ = images.shape
    noise = snow.mean + snow.deviation * normals((*images.shape[:3],), generators)
    noise = _magnified(_magnified(noise, 1, height, snow.zoom), 2, width, snow.zoom)
    noise[noise < snow.threshold] = 0
    flakes = np.floor(np.clip(noise, 0, 1) * np.float32(WHITE))
    angles = [generator.uniform(-135, -45) for generator in generators]
    smeared = [smear(flake, snow.motion, angle) for flake, angle in zip(flakes, angles, strict=True)]
    # ImageMagick, which made the published flakes, rounds down as well.
    fallen = np.floor(np.stack(smeared) + np.float32(1e-3))[..., None]
    grey = luminance(images)
    scene = snow.scene * images + (1 - snow.scene) * np.maximum(images, 1.5 * grey + np.float32(0.5 * WHITE))
    return scene + fallen + fallen[:, ::-1, ::-1]


def _magnified(layers: Floats, axis: int, size: int, factor: float) -> Floats:
    left, weight = magnification(size, factor)
    weight = weight.reshape((-1, 1) if axis == 1 else (-1,))
    right = np.minimum(left + 1, size - 1)
    return layers.take(left, axis) * (1 - weight) + layers.take(right, axis) * weight


def frost(images: Floats, generators: Generators, frost: Frost) -> Floats:
    """Add a random piece of one of the photographs of frost; images are RGB.

    Raises:
        DataError: the photographs are not installed.
    """
    layers = frost_layers(frost.scale, *images.shape[1:3])
    _, height, width, _ = images.shape
    result = frost.scene * images
    for image, generator in zip(result, generators, strict=True):
        layer = layers[generator.integers(len(layers))]
        top = generator.integers(layer.shape[0] - height)
        left = generator.integers(layer.shape[1] - width)
        image += np.float32(frost.photograph) * layer[top : top + height, left : left + width]
    return result


def fog(images: Floats, generators: Generators, fog: Fog) -> Floats:
    """Add a fractal height map, and scale the sum so that no value exceeds the image's brightest."""
    _, height, width, _ = images.shape
    side = 1 << (max(height, width) - 1).bit_length()
    plasma = _plasma(side, fog.decay, generators)[:, :height, :width, None]
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    thickness = np.float32(WHITE * fog.thickness)
    return (images + thickness * plasma) * (brightest / (brightest + thickness))


def _plasma(side: int, decay: float, generators: Generators) -> Floats:
    """Return height maps (N, side, side) from 0 to 1 by the diamond-square algorithm on a torus.

    `side` is a power of two. From the coarsest grid to the finest, the centre of each square is the mean of its
    corners plus noise, then the middle of each edge the mean of its four neighbours plus noise; the noise's
    amplitude falls by `decay` squared from grid to grid.
    """
    maps = np.zeros((len(generators), side, side), np.float32)
    noise = uniforms((len(generators), side * side), generators) * 2 - 1
    amplitude, used = np.float32(1), 0

    def drawn(cells: int) -> Floats:
        nonlocal used
        used += cells * cells
        return amplitude * noise[:, used - cells * cells : used].reshape(-1, cells, cells)

    step = side
    while step >= 2:
        half, cells = step // 2, side // step
        corners = maps[:, ::step, ::step]
        across = corners + np.roll(corners, -1, 2)
        centres = (across + np.roll(across, -1, 1)) / 4 + drawn(cells)
        maps[:, half::step, half::step] = centres
        maps[:, ::step, half::step] = (across + centres + np.roll(centres, 1, 1)) / 4 + drawn(cells)
        down = corners + np.roll(corners, -1, 1)
        maps[:, half::step, ::step] = (down + centres + np.roll(centres, 1, 2)) / 4 + drawn(cells)
        step, amplitude = half, amplitude / np.float32(decay**2)
    maps -= maps.min(axis=(1, 2), keepdims=True)
    return maps / maps.max(axis=(1, 2), keepdims=True)
