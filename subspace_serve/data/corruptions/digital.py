"""Colour and encoding: brightness, contrast, saturation, pixelation and JPEG. Images and generators as in `noise`."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from subspace_serve.data.corruptions.noise import WHITE, Floats, Generators
from subspace_serve.data.corruptions.severities import Saturation

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def luminance(images: Floats) -> Floats:
    """Return (..., 1): the luminance of RGB images (Rec. 601), grey images as they are."""
    if images.shape[-1] == 1:
        return images
    red, green, blue = (images[..., channel] * _LUMINANCE[channel] for channel in range(3))
    return (red + green + blue)[..., None]


def brightness(images: Floats, generators: Generators, amount: float) -> Floats:
    """Raise the value in HSV by `amount`, a fraction of the range."""
    value = images.max(axis=-1, keepdims=True)
    raised = np.minimum(value + np.float32(amount * WHITE), np.float32(WHITE))
    # Hue and saturation are unchanged when the channels keep their proportions; black has neither.
    return np.where(value > 0, images * (raised / np.maximum(value, 1)), raised)


def contrast(images: Floats, generators: Generators, factor: float) -> Floats:
    """Scale the distance of every value from the mean of its channel in its image by `factor`."""
    # Whole numbers, so that the sum is exact and does not depend on the batch.
    means = images.astype(np.int64).mean(axis=(1, 2), keepdims=True).astype(np.float32)
    return (images - means) * np.float32(factor) + means


def saturate(images: Floats, generators: Generators, saturation: Saturation) -> Floats:
    """Change the saturation in HSV; images are RGB. Grey counts as unsaturated red."""
    value = images.max(axis=-1, keepdims=True)
    distance = value - images
    range_ = distance.max(axis=-1, keepdims=True)
    saturated = np.clip(range_ / np.maximum(value, 1) * saturation.factor + saturation.offset, 0, 1) * value
    red = np.array([0, 1, 1], np.float32)
    return value - np.where(range_ > 0, distance / np.maximum(range_, 1), red) * saturated


def jpeg_compression(images: Floats, generators: Generators, quality: float) -> Floats:
    """Compress to JPEG at `quality`, and decode it again."""
    result = np.empty_like(images)
    for index, image in enumerate(images.astype(np.uint8)):
        with BytesIO() as stream:
            _picture(image).save(stream, "JPEG", quality=int(quality))
            result[index] = np.asarray(Image.open(stream)).reshape(image.shape)
    return result


def pixelate(images: Floats, generators: Generators, share: float) -> Floats:
    """Shrink to `share` of the size, and enlarge again."""
    _, height, width, _ = images.shape
    small = max(int(width * share), 1), max(int(height * share), 1)
    result = np.empty_like(images)
    for index, image in enumerate(images.astype(np.uint8)):
        coarse = _picture(image).resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)
        result[index] = np.asarray(coarse).reshape(image.shape)
    return result


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
