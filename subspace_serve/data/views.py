"""Images that are changed as they are read: resized here, corrupted in `corrupted.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from subspace_serve.data.augmentation import Augmentation, augment
from subspace_serve.data.images import Images, MemoryImages, Part, fingerprint, in_chunks
from subspace_serve.pixels import resize

_TAKEN_AT_ONCE = 1024


class ChangedImages(ABC):
    """Images of another set, each changed when it is read; no more than a batch is in memory."""

    def __init__(self, images: Images) -> None:
        self.images = images

    @property
    def labels(self) -> np.ndarray:
        return self.images.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def batches(
        self,
        batch_size: int,
        *,
        generator: np.random.Generator | None = None,
        augmentation: Augmentation | None = None,
        drop_last: bool = False,
        part: Part | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield batches as `Images.batches` says; what is changed is augmented, not the other way round.

        Only a random area (`Augmentation.resized_crop`) is cut out before, when its file is decoded.
        """
        decoding = None
        if augmentation is not None and augmentation.resized_crop:
            decoding = Augmentation(resized_crop=True)
            augmentation = replace(augmentation, resized_crop=False)
        read = self.images.batches(
            batch_size, generator=generator, augmentation=decoding, drop_last=drop_last, part=part
        )
        for number, (pixels, labels) in enumerate(read):
            changed = self.change(pixels)
            if augmentation is not None:
                whole = min(batch_size, len(self) - number * batch_size)
                wanted = None if part is None else part(whole)
                changed = augment(changed, augmentation, generator, whole, wanted)
            yield changed, labels

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.empty((len(indices), *self.shape), np.uint8)
        chunks = (in_chunks(values, _TAKEN_AT_ONCE) for values in (pixels, indices))
        for target, chunk in zip(*chunks, strict=True):
            target[:] = self.change(self.images.take(chunk)[0])
        return pixels, self.labels[indices]

    def subset(self, indices: np.ndarray) -> Images:
        return self.over(self.images.subset(indices))

    def with_labels(self, labels: np.ndarray) -> Images:
        return self.over(self.images.with_labels(labels))

    @abstractmethod
    def change(self, pixels: np.ndarray) -> np.ndarray:
        """Return a batch, uint8 (N, height, width, channels), as it is to be seen; each image on its own."""

    @abstractmethod
    def over(self, images: Images) -> Images:
        """Return the same view of other images."""

    @abstractmethod
    def fingerprint(self) -> str: ...


class ResizedImages(ChangedImages):
    """Images at another size (bilinear, antialiased)."""

    def __init__(self, images: Images, height: int, width: int) -> None:
        super().__init__(images)
        self.size = height, width

    @property
    def shape(self) -> tuple[int, int, int]:
        return *self.size, self.images.shape[2]

    def change(self, pixels: np.ndarray) -> np.ndarray:
        return resize(pixels, *self.size)

    def over(self, images: Images) -> ResizedImages:
        return ResizedImages(images, *self.size)

    def fingerprint(self) -> str:
        """Return the same SHA-256 as for the resized images in memory."""
        return fingerprint(self)


def resized(images: Images, height: int, width: int) -> Images:
    """Return images at another size: at once those in memory, as they are read all others."""
    if images.shape[:2] == (height, width):
        return images
    if isinstance(images, MemoryImages):
        return images.resized(height, width)
    return ResizedImages(images, height, width)
