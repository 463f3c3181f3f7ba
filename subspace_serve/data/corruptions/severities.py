"""The published severities: for every preset and corruption, the parameters of severities 1 to 5.

The numbers are those of the scripts that made CIFAR-10-C, Tiny-ImageNet-C and ImageNet-C (Hendrycks and Dietterich,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019). Lengths are in pixels
and intensities in fractions of the full range, unless a field says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Disk(NamedTuple):
    """Defocus: a disk of `radius`, its edge smoothed by a Gaussian of deviation `edge`."""

    radius: float
    edge: float


class Glass(NamedTuple):
    """Pixels are displaced by up to `reach`, `rounds` times, between two Gaussian blurs of `deviation`."""

    deviation: float
    reach: int
    rounds: int


class Motion(NamedTuple):
    """A one-sided Gaussian of `deviation` along a line of 2 * `radius` + 1 pixels."""

    radius: int
    deviation: float


class Zooms(NamedTuple):
    """The mean of the image and its magnifications from 1 up to (not including) `stop`, in steps of `step`."""

    stop: float
    step: float


class Snow(NamedTuple):
    """Flakes are normal noise, magnified by `zoom`, kept above `threshold`, and smeared; `scene` weighs the scene."""

    mean: float
    deviation: float
    zoom: float
    threshold: float
    motion: Motion
    scene: float


class Frost(NamedTuple):
    """The weights of the scene and of the photograph, which is first resized to `scale` of its size."""

    scene: float
    photograph: float
    scale: float


class Fog(NamedTuple):
    """`thickness` times a height map whose detail falls by `decay` squared from each scale to the next finer one."""

    thickness: float
    decay: float


class Elastic(NamedTuple):
    """Lengths in fractions of the image's smaller side.

    Displacements of `amplitude`, smoothed with `deviation`, after an affine map that moves three points by up to
    `affine`.
    """

    amplitude: float
    deviation: float
    affine: float


class Spatter(NamedTuple):
    """Normal noise blurred by `blur` and kept above `threshold`; `edge`: opacity of water, or the blur of mud."""

    mean: float
    deviation: float
    blur: float
    threshold: float
    edge: float
    mud: bool


class Saturation(NamedTuple):
    """Saturation times `factor`, plus `offset`."""

    factor: float
    offset: float


Parameters = float | Disk | Glass | Motion | Zooms | Snow | Frost | Fog | Elastic | Spatter | Saturation
Table = Mapping[str, tuple[Parameters, Parameters, Parameters, Parameters, Parameters]]

_CIFAR: Table = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
    "defocus_blur": (Disk(0.3, 0.4), Disk(0.4, 0.5), Disk(0.5, 0.6), Disk(1, 0.2), Disk(1.5, 0.1)),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "glass_blur": (Glass(0.05, 1, 1), Glass(0.25, 1, 1), Glass(0.4, 1, 1), Glass(0.25, 1, 2), Glass(0.4, 1, 2)),
    "motion_blur": (Motion(6, 1), Motion(6, 1.5), Motion(6, 2), Motion(8, 2), Motion(9, 2.5)),
    "zoom_blur": (Zooms(1.06, 0.01), Zooms(1.11, 0.01), Zooms(1.16, 0.01), Zooms(1.21, 0.01), Zooms(1.26, 0.01)),
    "snow": (
        Snow(0.1, 0.2, 1, 0.6, Motion(8, 3), 0.95),
        Snow(0.1, 0.2, 1, 0.5, Motion(10, 4), 0.9),
        Snow(0.15, 0.3, 1.75, 0.55, Motion(10, 4), 0.9),
        Snow(0.25, 0.3, 2.25, 0.6, Motion(12, 6), 0.85),
        Snow(0.3, 0.3, 1.25, 0.65, Motion(14, 12), 0.8),
    ),
    "frost": (
        Frost(1, 0.2, 0.2),
        Frost(1, 0.3, 0.2),
        Frost(0.9, 0.4, 0.2),
        Frost(0.85, 0.4, 0.2),
        Frost(0.75, 0.45, 0.2),
    ),
    "fog": (Fog(0.2, 3), Fog(0.5, 3), Fog(0.75, 2.5), Fog(1, 2), Fog(1.5, 1.75)),
    "spatter": (
        Spatter(0.62, 0.1, 0.7, 0.7, 0.5, mud=False),
        Spatter(0.65, 0.1, 0.8, 0.7, 0.5, mud=False),
        Spatter(0.65, 0.3, 1, 0.69, 0.5, mud=False),
        Spatter(0.65, 0.1, 0.7, 0.69, 0.6, mud=True),
        Spatter(0.65, 0.1, 0.5, 0.68, 0.6, mud=True),
    ),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "saturate": (Saturation(0.3, 0), Saturation(0.1, 0), Saturation(1.5, 0), Saturation(2, 0.1), Saturation(2.5, 0.2)),
    "elastic_transform": (
        Elastic(0, 0, 0.08),
        Elastic(0.05, 0.2, 0.07),
        Elastic(0.08, 0.06, 0.06),
        Elastic(0.1, 0.04, 0.05),
        Elastic(0.1, 0.03, 0.03),
    ),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": (80, 65, 58, 50, 40),
}

_TINY: Table = {
    "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
    "shot_noise": (250, 100, 50, 30, 15),
    "impulse_noise": (0.01, 0.02, 0.05, 0.08, 0.14),
    "speckle_noise": (0.15, 0.2, 0.25, 0.3, 0.35),
    "defocus_blur": (Disk(0.5, 0.6), Disk(1, 0.1), Disk(1.5, 0.1), Disk(2.5, 0.01), Disk(3, 0.1)),
    "gaussian_blur": (0.5, 0.75, 1.0, 1.25, 1.5),
    "glass_blur": (Glass(0.1, 1, 1), Glass(0.5, 1, 1), Glass(0.6, 1, 2), Glass(0.7, 2, 1), Glass(0.9, 2, 2)),
    "motion_blur": (Motion(10, 1), Motion(10, 1.5), Motion(10, 2), Motion(10, 2.5), Motion(12, 3)),
    "zoom_blur": (Zooms(1.06, 0.01), Zooms(1.11, 0.01), Zooms(1.16, 0.01), Zooms(1.21, 0.01), Zooms(1.26, 0.01)),
    "snow": (
        Snow(0.1, 0.2, 1, 0.6, Motion(8, 3), 0.8),
        Snow(0.1, 0.2, 1, 0.5, Motion(10, 4), 0.8),
        Snow(0.15, 0.3, 1.75, 0.55, Motion(10, 4), 0.7),
        Snow(0.25, 0.3, 2.25, 0.6, Motion(12, 6), 0.65),
        Snow(0.3, 0.3, 1.25, 0.65, Motion(14, 12), 0.6),
    ),
    "frost": (
        Frost(1, 0.3, 0.3),
        Frost(0.9, 0.4, 0.3),
        Frost(0.8, 0.45, 0.3),
        Frost(0.75, 0.5, 0.3),
        Frost(0.7, 0.55, 0.3),
    ),
    "fog": (Fog(0.4, 3), Fog(0.7, 3), Fog(1, 2.5), Fog(1.5, 2), Fog(2, 1.75)),
    "spatter": (
        Spatter(0.62, 0.1, 0.7, 0.7, 0.6, mud=False),
        Spatter(0.65, 0.1, 0.8, 0.7, 0.6, mud=False),
        Spatter(0.65, 0.3, 1, 0.69, 0.6, mud=False),
        Spatter(0.65, 0.1, 0.7, 0.68, 0.6, mud=True),
        Spatter(0.65, 0.1, 0.5, 0.67, 0.6, mud=True),
    ),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "saturate": (Saturation(0.3, 0), Saturation(0.1, 0), Saturation(2, 0), Saturation(5, 0.1), Saturation(30, 0.2)),
    "elastic_transform": (
        Elastic(0, 0, 0.08),
        Elastic(0.05, 0.3, 0.06),
        Elastic(0.1, 0.08, 0.06),
        Elastic(0.1, 0.03, 0.03),
        Elastic(0.16, 0.03, 0.02),
    ),
    "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),
    "jpeg_compression": (65, 58, 50, 40, 25),
}

# ImageNet-C's elastic lengths were written as fractions of 244 pixels, for images of 224.
_OF_224 = 244 / 224

_IMAGENET: Table = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": (60, 25, 12, 5, 3),
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
    "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),
    "defocus_blur": (Disk(3, 0.1), Disk(4, 0.5), Disk(6, 0.5), Disk(8, 0.5), Disk(10, 0.5)),
    "gaussian_blur": (1, 2, 3, 4, 6),
    "glass_blur": (Glass(0.7, 1, 2), Glass(0.9, 2, 1), Glass(1, 2, 3), Glass(1.1, 3, 2), Glass(1.5, 4, 2)),
    "motion_blur": (Motion(10, 3), Motion(15, 5), Motion(15, 8), Motion(15, 12), Motion(20, 15)),
    "zoom_blur": (Zooms(1.11, 0.01), Zooms(1.16, 0.01), Zooms(1.21, 0.02), Zooms(1.26, 0.02), Zooms(1.31, 0.03)),
    "snow": (
        Snow(0.1, 0.3, 3, 0.5, Motion(10, 4), 0.8),
        Snow(0.2, 0.3, 2, 0.5, Motion(12, 4), 0.7),
        Snow(0.55, 0.3, 4, 0.9, Motion(12, 8), 0.7),
        Snow(0.55, 0.3, 4.5, 0.85, Motion(12, 8), 0.65),
        Snow(0.55, 0.3, 2.5, 0.85, Motion(12, 12), 0.55),
    ),
    "frost": (Frost(1, 0.4, 1), Frost(0.8, 0.6, 1), Frost(0.7, 0.7, 1), Frost(0.65, 0.7, 1), Frost(0.6, 0.75, 1)),
    "fog": (Fog(1.5, 2), Fog(2, 2), Fog(2.5, 1.7), Fog(2.5, 1.5), Fog(3, 1.4)),
    "spatter": (
        Spatter(0.65, 0.3, 4, 0.69, 0.6, mud=False),
        Spatter(0.65, 0.3, 3, 0.68, 0.6, mud=False),
        Spatter(0.65, 0.3, 2, 0.68, 0.5, mud=False),
        Spatter(0.65, 0.3, 1, 0.65, 1.5, mud=True),
        Spatter(0.67, 0.4, 1, 0.65, 1.5, mud=True),
    ),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "saturate": (Saturation(0.3, 0), Saturation(0.1, 0), Saturation(2, 0), Saturation(5, 0.1), Saturation(20, 0.2)),
    "elastic_transform": (
        Elastic(2 * _OF_224, 0.7 * _OF_224, 0.1 * _OF_224),
        Elastic(2 * _OF_224, 0.08 * _OF_224, 0.2 * _OF_224),
        Elastic(0.05 * _OF_224, 0.01 * _OF_224, 0.02 * _OF_224),
        Elastic(0.07 * _OF_224, 0.01 * _OF_224, 0.02 * _OF_224),
        Elastic(0.12 * _OF_224, 0.01 * _OF_224, 0.02 * _OF_224),
    ),
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg_compression": (25, 18, 15, 10, 7),
}

TABLES: Mapping[str, Table] = {"cifar": _CIFAR, "tiny": _TINY, "imagenet": _IMAGENET}
"""Preset, corruption, and the parameters of severities 1 to 5."""
