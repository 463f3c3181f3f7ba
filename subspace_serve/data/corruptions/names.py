"""The names of the corruptions, of the severities and of the presets, and which preset suits a size."""

from __future__ import annotations

from collections.abc import Sequence

from subspace_serve.errors import DataError
from subspace_serve.suggestions import did_you_mean

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
)
"""The 15 types of the benchmark in its order, then the 4 that it keeps for validation."""

SEVERITIES = (1, 2, 3, 4, 5)

PRESETS = ("cifar", "tiny", "imagenet")
"""The severity tables of CIFAR-10-C, Tiny-ImageNet-C and ImageNet-C."""


def preset_for(height: int, width: int) -> str:
    """Return the preset that suits a size in pixels, by its smaller side: `cifar` below 48, `tiny` below 128.

    Above that it is `imagenet`. The tables were made for 32, 64 and 224 pixels; the limits are about halfway between
    these on a logarithmic scale.
    """
    smaller = min(height, width)
    if smaller < 48:
        return "cifar"
    return "tiny" if smaller < 128 else "imagenet"


def check_severity(severity: int) -> None:
    """Do nothing when `severity` is an integer from 1 to 5.

    Raises:
        DataError: it is not.
    """
    # True == 1 and 2.0 == 2, but both are mistakes.
    if isinstance(severity, bool | float) or severity not in SEVERITIES:
        raise DataError(f"a corruption's severity is an integer from 1 to 5; found {severity!r}; give one of them")


def check_name(kind: str, name: str, names: Sequence[str]) -> None:
    """Do nothing when `name` is one of `names`; `kind` says what these are of.

    Raises:
        DataError: it is not; the message suggests similar names, or lists all.
    """
    if name in names:
        return
    hint = did_you_mean(str(name), names, 3) or f"give one of {', '.join(names)}"
    raise DataError(f"there is no {kind} {name!r}; {hint}")
