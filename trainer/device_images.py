"""Training images that stay on the device: batches are gathered, cropped and mirrored there.

A small network's step takes less time than a processor needs to cut out and send its batch. What is drawn is drawn by
the same generator in the same order as `Images.batches` does, so the batches are the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from subspace_serve.data import Augmentation, Images
from subspace_serve.data.array import ArrayImages
from subspace_serve.data.augmentation import draw_variation
from subspace_serve.data.images import Part, batch_indices

LARGEST_SHARE = 0.25
"""Of the device's free memory: what images may take, so that networks and other runs have room."""


class DeviceImages:
    """Images of a data set, on a device.

    Args:
        images: in an array; all of them are read.
        device: where they are kept.
    """

    def __init__(self, images: ArrayImages, device: torch.device) -> None:
        (pixels,) = images.read([slice(None)])
        self.pixels = torch.from_numpy(pixels).to(device)
        self.labels = torch.from_numpy(images.labels).to(device)
        self.device = device

    def batches(
        self,
        batch_size: int,
        *,
        generator: np.random.Generator,
        augmentation: Augmentation,
        drop_last: bool = True,
        part: Part | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch: pixels, uint8 (N, height, width, channels), and labels, int64 (N,).

        They are those of `Images.batches` with the same arguments. All of an epoch's draws are sent at once.
        """
        batches = list(batch_indices(len(self.labels), batch_size, generator, drop_last, part))
        drawn = [draw_variation(augmentation, generator, batch.whole, batch.part) for batch in batches]
        sizes = [len(batch.indices) for batch in batches]  # type: ignore[arg-type]
        order = self._sent([batch.indices for batch in batches], sizes)  # type: ignore[misc]
        tops, lefts = (
            self._sent([each.places[axis] for each in drawn if each.places is not None], sizes) for axis in (0, 1)
        )
        mirrored = self._sent([each.mirrored for each in drawn if each.mirrored is not None], sizes)
        for at, indices in enumerate(order):
            pixels = self.pixels[indices]
            if tops or mirrored:
                top, left = (tops[at], lefts[at]) if tops else (None, None)
                pixels = _varied(pixels, augmentation.padding, top, left, mirrored[at] if mirrored else None)
            yield pixels, self.labels[indices]

    def _sent(self, parts: list[np.ndarray], sizes: list[int]) -> list[Tensor]:
        """Return arrays, one a batch, on the device, sent together; an empty list for an empty one."""
        if not parts:
            return []
        return list(torch.from_numpy(np.concatenate(parts)).to(self.device, non_blocking=True).split(sizes))


def on_device(images: Images, augmentation: Augmentation, device: torch.device) -> Images | DeviceImages:
    """Return training images kept on a CUDA device, where they are in an array and there is room; else as they are."""
    if device.type != "cuda" or not isinstance(images, ArrayImages) or augmentation.resized_crop:
        return images
    free, _ = torch.cuda.mem_get_info(device)
    return DeviceImages(images, device) if len(images) * math.prod(images.shape) <= LARGEST_SHARE * free else images


def _varied(pixels: Tensor, margin: int, top: Tensor | None, left: Tensor | None, mirrored: Tensor | None) -> Tensor:
    """Cut a crop of the original size out of each padded image, mirrored where asked, in one gather."""
    count, height, width, _ = pixels.shape
    rows, columns = (torch.arange(size, device=pixels.device).expand(count, size) for size in (height, width))
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
    if top is not None and left is not None:
        pixels = F.pad(pixels, (0, 0, margin, margin, margin, margin))
        rows, columns = rows + top[:, None], columns + left[:, None]
    images = torch.arange(count, device=pixels.device)
    return pixels[images[:, None, None], rows[:, :, None], columns[:, None, :]]
