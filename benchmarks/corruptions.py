"""How fast images are corrupted, compared with `imagecorruptions-imaug`; `benchmarks.selection` measures it.

All 19 corruptions at severity 3, on images of 32 by 32 pixels cut from two photographs. The other package works in one
process, on one image at a time; this one is timed with one worker and with as many as it chooses, and with one worker
on its preset for CIFAR. Every round times all of these in turn, and the ratios are taken round by round.

Needs imagecorruptions-imaug, numba and scikit-image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.measure import at_least, interleaved, ratio, summary
from subspace_serve.data.corruptions import CORRUPTIONS, corrupt

SEVERITY = 3
SIDE = 32
# The table of strengths that the other package has; how long the blurs take depends on their width.
PRESET = "imagenet"
TARGET = 3.0


def photograph_patches(side: int) -> np.ndarray:
    """Return squares of scikit-learn's two sample photographs at half their size, uint8 (N, side, side, 3).

    120 of 32 pixels or 30 of 64: a grid over both.
    """
    from sklearn.datasets import load_sample_images

    patches = []
    for photograph in load_sample_images().images:
        small = np.asarray(Image.fromarray(photograph).reduce(2))
        rows, columns = (length // side for length in small.shape[:2])
        grid = small[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
        patches.append(grid.swapaxes(1, 2).reshape(-1, side, side, 3))
    return np.concatenate(patches)


def corruption_speed(rounds: int, count: int) -> dict[str, Any]:
    """Return the seconds of both packages for `count` images under all corruptions, and the ratios, theirs over ours.

    Raises:
        ImportError: imagecorruptions-imaug is not installed, or cannot be imported.
    """
    from imagecorruptions import corrupt as other_corrupt

    patches = photograph_patches(SIDE)
    images = np.ascontiguousarray(np.resize(patches, (count, *patches.shape[1:])))

    def other() -> None:
        for name in CORRUPTIONS:
            for image in images:
                other_corrupt(image, severity=SEVERITY, corruption_name=name)

    def ours(preset: str, workers: int | None) -> Callable[[], None]:
        def run() -> None:
            for name in CORRUPTIONS:
                corrupt(images, name, SEVERITY, preset=preset, workers=workers)

        return run

    candidates = {
        "imagecorruptions-imaug": other,
        "one worker": ours(PRESET, 1),
        "workers chosen": ours(PRESET, None),
        "one worker, cifar preset": ours("cifar", 1),
    }
    seconds = interleaved(candidates, rounds=rounds, warm_up=1)
    theirs = seconds["imagecorruptions-imaug"]
    return {
        "settings": {"rounds": rounds, "images": count, "side": SIDE, "severity": SEVERITY, "preset": PRESET},
        "seconds": {name: summary(times) for name, times in seconds.items()},
        "times_as_fast": {
            "one worker": at_least(TARGET, ratio(theirs, seconds["one worker"])),
            "workers chosen": at_least(TARGET, ratio(theirs, seconds["workers chosen"])),
        },
    }
