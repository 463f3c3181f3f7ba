"""The images from which BatchNorm's statistics are recomputed, and those that check them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace_serve.data import Images, MemoryImages, Preprocessing, permutation
from subspace_serve.errors import CalibrationError
from subspace_serve.network.network import Network
from subspace_serve.network.statistics import SMALLEST_CHECK, Statistics
from subspace_serve.space.place import Alpha

DEFAULT_COUNT = 10_000
DEFAULT_BATCH_SIZE = 128
HELD_OUT = 512
SMALLEST_COUNT = 2 * SMALLEST_CHECK
"""Of fewer images, at most half of which are held out, none can be exported: their statistics cannot be checked."""
_MEMORY_LIMIT = 1 << 30


@dataclass(frozen=True)
class CalibrationData:
    """Calibration images, drawn once with a seed, and others held out to check the result.

    All batches of calibration images have one size, and every pass yields the same ones.

    Attributes:
        name: what the images are, for the record.
        images: the images that calibrate.
        held_out: images to check with, disjoint from `images`: a fifth of all images, at most 512 and at least 16, but
            no more than half. See `refuse_too_few`.
        drawn_from: all images that both were drawn from.
        preprocessing: the network's normalisation.
        batch_size: images per batch.
        seed: the seed that the images were drawn with.
    """

    name: str
    images: Images
    held_out: Images
    drawn_from: Images
    preprocessing: Preprocessing
    batch_size: int
    seed: int

    def pixels(self) -> Iterator[np.ndarray]:
        """Yield the pixels of the images that calibrate, uint8 (batch_size, H, W, C)."""
        return (pixels for pixels, _ in self.images.batches(self.batch_size))

    def held_out_pixels(self) -> Iterator[np.ndarray]:
        """Yield the pixels of the held-out images; the last batch may be smaller."""
        return (pixels for pixels, _ in self.held_out.batches(self.batch_size))

    def statistics(self, network: Network, alpha: Alpha, weights: np.ndarray) -> Statistics:
        """Recompute the statistics of one network, whose parameters are `weights`."""
        return network.recalibrate(self.pixels(), weights=weights)

    def refuse_too_few(self, network: Network, name: str, *, least: int = SMALLEST_COUNT) -> None:
        """Refuse images that are too few for `Network.check`, before any work.

        Args:
            network: the subspace; one without BatchNorm needs no images.
            name: of the point that they calibrate, for the message.
            least: how many images the user must give.

        Raises:
            CalibrationError: they are.
        """
        if network.skeleton.batchnorms and len(self.held_out) < SMALLEST_CHECK:
            raise CalibrationError(
                f"{name}: its BatchNorm statistics are checked on {SMALLEST_CHECK} images that they were not computed "
                f"from, and of the images of {self.name} only {len(self.held_out)} are left for that; give {least} or "
                "more, or leave --calibrate-on out"
            )

    def __len__(self) -> int:
        """Return how many images calibrate."""
        return len(self.images)

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest records."""
        return {"data": self.name, "count": len(self), "batch_size": self.batch_size, "seed": self.seed}


def draw_calibration_data(
    images: Images,
    preprocessing: Preprocessing,
    *,
    name: str,
    count: int = DEFAULT_COUNT,
    batch_size: int = DEFAULT_BATCH_SIZE,
    seed: int = 0,
) -> CalibrationData:
    """Draw calibration images at random, without augmentation.

    Args:
        images: what to draw from (labels are not used), usually the training images.
        preprocessing: the network's normalisation.
        name: what the images are, for the record.
        count: how many calibrate, at most; a multiple of `batch_size` is used where there are enough.
        batch_size: images per batch.
        seed: of the draw.

    Raises:
        CalibrationError: there are too few images to calibrate with.
    """
    if batch_size < 2 or count < 2:
        raise CalibrationError(f"calibration takes 2 images a batch or more; got {count} in batches of {batch_size}")
    if len(images) < 4:
        raise CalibrationError(f"calibration takes at least 4 images; {name} has {len(images)}")
    order = permutation(len(images), seed)
    # A check takes at least sixteen images, so a small set gives more than a fifth of itself.
    held_out = min(HELD_OUT, max(len(images) // 5, min(SMALLEST_CHECK, len(images) // 2)))
    usable = min(count, len(images) - held_out)
    batch_size = min(batch_size, usable)
    usable -= usable % batch_size
    return CalibrationData(
        name=name,
        images=_at_hand(images, order[:usable]),
        held_out=images.subset(order[len(order) - held_out :]),
        drawn_from=images,
        preprocessing=preprocessing,
        batch_size=batch_size,
        seed=seed,
    )


def _at_hand(images: Images, indices: np.ndarray) -> Images:
    """Return a subset, decoded into memory if it is small enough, since each point of a sweep reads it again."""
    height, width, channels = images.shape
    if len(indices) * height * width * channels > _MEMORY_LIMIT:
        return images.subset(indices)
    return MemoryImages(*images.take(indices))
