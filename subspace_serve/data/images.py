"""Labelled images: what every data set yields, and the sets that fit in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from subspace_serve.data.augmentation import Augmentation, augment
from subspace_serve.errors import DataError
from subspace_serve.pixels import resize

_SAMPLED = 4096
_CHUNK = 1024
_RANK = 4

Part = Callable[[int], slice]
"""Which images of a batch of so many are wanted, as a slice from `start` to `stop`."""


class Images(Protocol):
    """Labelled images, wherever they lie: pixels uint8 (N, height, width, channels), labels int64 (N,)."""

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        ...

    def __len__(self) -> int: ...

    def batches(
        self,
        batch_size: int,
        *,
        generator: np.random.Generator | None = None,
        augmentation: Augmentation | None = None,
        drop_last: bool = False,
        part: Part | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield every image once, as pixels and labels, `batch_size` at a time; the last batch may be smaller.

        Shuffled when `generator` is given. It decides the order and the augmentation: the same state gives
        the same bytes. `drop_last` leaves out a smaller last batch. With `part` only that part of each batch is read
        and yielded, in the same bytes as without. What is yielded is for reading only, as it may share memory with
        the set.
        """
        ...

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels and labels at `indices`, in that order."""
        ...

    def subset(self, indices: np.ndarray) -> Images:
        """Return the set of the images at `indices`."""
        ...

    def with_labels(self, labels: np.ndarray) -> Images:
        """Return the same images under other labels."""
        ...

    def fingerprint(self) -> str:
        """Return a SHA-256 that is the same for the same data on every machine."""
        ...


class MemoryImages:
    """Images that lie in memory and are augmented a batch at a time."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        """Hold `pixels`, uint8 (N, height, width, channels), and `labels`, integers (N,); neither is copied.

        Raises:
            DataError: pixels or labels of another type or rank, or not as many of one as of the other.
        """
        check_pixels(pixels)
        self.pixels = np.ascontiguousarray(pixels)
        self.labels = checked_labels(labels, len(pixels))

    @property
    def shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.pixels.shape
        return height, width, channels

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(
        self,
        batch_size: int,
        *,
        generator: np.random.Generator | None = None,
        augmentation: Augmentation | None = None,
        drop_last: bool = False,
        part: Part | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in batch_indices(len(self), batch_size, generator, drop_last, part):
            pixels = self.pixels[batch.indices]
            if augmentation is not None:
                pixels = augment(pixels, augmentation, generator, batch.whole, batch.part)
            yield pixels, self.labels[batch.indices]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.pixels[indices], self.labels[indices]

    def subset(self, indices: np.ndarray) -> MemoryImages:
        return MemoryImages(*self.take(indices))

    def with_labels(self, labels: np.ndarray) -> MemoryImages:
        return MemoryImages(self.pixels, labels)

    def resized(self, height: int, width: int) -> MemoryImages:
        """Return the images at another size (bilinear, antialiased)."""
        if self.shape[:2] == (height, width):
            return self
        return MemoryImages(resize(self.pixels, height, width), self.labels)

    def fingerprint(self) -> str:
        """Return the SHA-256 of shape, labels and the pixels of up to 4096 evenly spaced images."""
        return fingerprint(self)


def fingerprint(images: Images) -> str:
    """Return the SHA-256 of shape, labels and the pixels of up to 4096 evenly spaced images, wherever they lie."""
    digest = hashlib.sha256(repr((len(images), *images.shape)).encode())
    digest.update(images.labels.astype("<i8").tobytes())
    # In chunks, which change no byte of the digest: 4096 images need not fit in memory.
    for chunk in in_chunks(evenly_spaced(len(images), _SAMPLED), _CHUNK):
        digest.update(images.take(chunk)[0].tobytes())
    return digest.hexdigest()


class Batch(NamedTuple):
    """What is read of a batch.

    Attributes:
        indices: where the images lie in the set.
        whole: how many images the whole batch has.
        part: which of them these are.
    """

    indices: np.ndarray | slice
    whole: int
    part: slice


def batch_indices(
    count: int, batch_size: int, generator: np.random.Generator | None, drop_last: bool, part: Part | None = None
) -> Iterator[Batch]:
    """Yield what is read of each batch: shuffled by the generator, or slices in order without one."""
    if batch_size < 1:
        raise DataError(f"the batch size must be at least 1; found {batch_size}; give a larger one")
    order = None if generator is None else generator.permutation(count)
    for start in range(0, count, batch_size):
        stop = min(start + batch_size, count)
        if drop_last and stop - start < batch_size:
            return
        wanted = slice(0, stop - start) if part is None else part(stop - start)
        first, last = start + wanted.start, start + wanted.stop
        yield Batch(slice(first, last) if order is None else order[first:last], stop - start, wanted)


def check_pixels(pixels: np.ndarray) -> None:
    """Raise `DataError` where pixels are of another type or rank than uint8 (N, height, width, channels)."""
    if pixels.dtype != np.uint8 or pixels.ndim != _RANK:
        raise DataError(
            f"images must be uint8 of shape (N, height, width, channels); "
            f"found {pixels.dtype} of shape {pixels.shape}; convert them"
        )


def checked_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """Return `labels` as int64 (count,).

    Raises:
        DataError: labels that are not integers, negative, of another rank, or not `count` of them.
    """
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels must be integers; found {labels.dtype}; give the index of each image's class")
    if labels.shape != (count,):
        raise DataError(
            f"labels must be one integer per image, shape ({count},); found shape {labels.shape}; "
            "give the index of each image's class"
        )
    if count and int(labels.min()) < 0:
        raise DataError(f"labels count from 0; found {int(labels.min())}; number the classes 0, 1, 2, ...")
    return labels.astype(np.int64, copy=False)


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Return at most `most` indices below `count`, evenly spaced and ascending."""
    taken = min(count, most)
    return np.arange(taken) * count // max(taken, 1)


def in_chunks(values: np.ndarray, size: int) -> list[np.ndarray]:
    """Return an array cut along its first axis into parts of `size`, the last perhaps smaller; none of an empty one."""
    return [values[start : start + size] for start in range(0, len(values), size)]
