"""Images that are changed as they are read: resized, repeated from grey to more channels, or corrupted."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator

import numpy as np

from subspace_serve.data.array import MemoryImages
from subspace_serve.data.images import Images
from subspace_serve.errors import DataError
from subspace_serve.pixels import resize


class ChangedImages(Images):
    """Images of another set, each changed when it is read; no more than a batch is in memory.

    The change comes before the augmentation, except that a random area (`Augmentation.resized_crop`) is cut out when
    its file is decoded.
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
        """Return a changed batch, uint8 (N, height, width, channels); each image is changed on its own."""

    @abstractmethod
    def over(self, images: Images) -> Images:
        """Return the same view of other images."""


class ResizedImages(ChangedImages):
    """The centres of images at another size (`pixels.resize`)."""

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
    """Return images at another size: those in memory are resized at once, all others when they are read."""
    if images.shape[:2] == (height, width):
        return images
    if isinstance(images, MemoryImages):
        return MemoryImages(resize(images.pixels, height, width), images.labels)
    return ResizedImages(images, height, width)


class RepeatedImages(ChangedImages):
    """Grey images with their one channel repeated, as a grey file is decoded for a network of three channels."""

    def __init__(self, images: Images, channels: int) -> None:
        super().__init__(images)
        self.channels = channels

    @property
    def shape(self) -> tuple[int, int, int]:
        return *self.images.shape[:2], self.channels

    def change(self, pixels: np.ndarray) -> np.ndarray:
        return np.repeat(pixels, self.channels, axis=3)

    def over(self, images: Images) -> RepeatedImages:
        return RepeatedImages(images, self.channels)


def with_channels(images: Images, channels: int) -> Images:
    """Return images with so many channels: grey ones are repeated, those in memory at once.

    Raises:
        DataError: they have another number of channels, and are not grey.
    """
    found = images.shape[2]
    if found == channels:
        return images
    if found != 1:
        raise DataError(f"the images have {found} channels and {channels} are wanted; only grey images are repeated")
    if isinstance(images, MemoryImages):
        return MemoryImages(np.repeat(images.pixels, channels, axis=3), images.labels)
    return RepeatedImages(images, channels)


class CorruptedImages(ChangedImages):
    """Images of another set under one corruption, made when they are read; no more than a batch is in memory.

    What an image becomes depends on its pixels, the corruption and the seed, not on its position or its batch: a
    subset of the corrupted images is the corrupted subset. To read them often, keep them in memory with
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
        """Set how the images are corrupted; none is read yet.

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
        # Corrupting an empty batch checks the arguments now, and not at the first real batch.
        corrupt(np.empty((0, *images.shape), np.uint8), name, severity, preset=self.preset, seed=seed)

    def change(self, pixels: np.ndarray) -> np.ndarray:
        from subspace_serve.data.corruptions import corrupt

        return corrupt(pixels, self.name, self.severity, preset=self.preset, seed=self.seed, workers=self.workers)

    def over(self, images: Images) -> CorruptedImages:
        return CorruptedImages(
            images, self.name, self.severity, preset=self.preset, seed=self.seed, workers=self.workers
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the images' own fingerprint and of how they are corrupted."""
        how = [self.images.fingerprint(), self.name, self.severity, self.preset, self.seed]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()
