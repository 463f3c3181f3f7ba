"""Images that are changed as they are read: resized, or corrupted."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator

import numpy as np

from subspace_serve.data.array import MemoryImages
from subspace_serve.data.images import Images
from subspace_serve.pixels import resize


class ChangedImages(Images):
    """Images of another set, each changed when it is read; no more than a batch is in memory.

    What is changed is augmented, not the other way round; only a random area (`Augmentation.resized_crop`) is cut out
    before, when its file is decoded.
    """

    def __init__(self, images: Images) -> None:
        self.images = images
        self.labels = images.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape

    def read(self, chosen: Iterable[np.ndarray | slice], areas: np.ndarray | None = None) -> Iterator[np.ndarray]:
        return map(self.change, self.images.read(chosen, areas))

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


def resized(images: Images, height: int, width: int) -> Images:
    """Return images at another size: at once those in memory, as they are read all others."""
    if images.shape[:2] == (height, width):
        return images
    if isinstance(images, MemoryImages):
        return MemoryImages(resize(images.pixels, height, width), images.labels)
    return ResizedImages(images, height, width)


class CorruptedImages(ChangedImages):
    """Images of another set under one corruption, made when they are read; no more than a batch is in memory.

    What an image becomes depends on its pixels, the corruption and the seed, not on its place or its batch: a
    subset of the corrupted images is the corrupted subset. Who reads them often keeps them in memory with
    `MemoryImages(*corrupted.take(...))`.
    """

    def __init__(
        self,
        images: Images,
        name: str,
        severity: int,
        *,
        preset: str | None = None,
        seed: int = 0,
        workers: int | None = None,
    ) -> None:
        """Say how the images are to be corrupted; none is read yet.

        Args:
            images: any labelled images, grey or RGB.
            name: the type of corruption, such as `fog`.
            severity: 1 (weak) to 5 (strong).
            preset: the table of strengths, `cifar`, `tiny` or `imagenet`; None chooses by the images' size.
            seed: decides what is random in a corruption.
            workers: threads that corrupt a batch, as `subspace_serve.data.corruptions.corrupt` has them.

        Raises:
            DataError: there is no such corruption, severity or preset, or images of that shape are not corrupted.
        """
        from subspace_serve.data.corruptions import corrupt, preset_for

        super().__init__(images)
        height, width, _ = images.shape
        self.name = name
        self.severity = severity
        self.preset = preset_for(height, width) if preset is None else preset
        self.seed = seed
        self.workers = workers
        # No image at all is checked like any other, so that what is wrong is said now and not at the first batch.
        corrupt(np.empty((0, *images.shape), np.uint8), name, severity, preset=self.preset, seed=seed)

    def change(self, pixels: np.ndarray) -> np.ndarray:
        from subspace_serve.data.corruptions import corrupt

        return corrupt(pixels, self.name, self.severity, preset=self.preset, seed=self.seed, workers=self.workers)

    def over(self, images: Images) -> CorruptedImages:
        return CorruptedImages(
            images, self.name, self.severity, preset=self.preset, seed=self.seed, workers=self.workers
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the images' own fingerprint and of all that says how they are corrupted."""
        how = [self.images.fingerprint(), self.name, self.severity, self.preset, self.seed]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()
