"""Labelled images: the interface of every data set, wherever its images are, and its division into batches."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from subspace_serve.data.augmentation import Augmentation, augment
from subspace_serve.errors import DataError

_SAMPLED = 4096
_CHUNK_BYTES = 1 << 25

Part = Callable[[int], slice]
"""Given a batch's size, returns which of its images are wanted, as a slice from `start` to `stop`."""


class Images(ABC):
    """Labelled images, wherever they are: pixels uint8 (N, height, width, channels), labels int64 (N,).

    A subclass says how images are read (`read`), and how other sets of its kind are made from a set (`subset`,
    `with_labels`).
    """

    labels: np.ndarray

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""

    @abstractmethod
    def read(self, chosen: Iterable[np.ndarray | slice], areas: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Yield the pixels at each of `chosen`, in their order; they may share memory with the set.

        Args:
            chosen: indices, or slices of the set.
            areas: a seed per image of the set, int64 (N,), for the random area that is cut out of its file.

        Raises:
            DataError: an image cannot be read, or areas are given and the images are not files.
        """

    @abstractmethod
    def subset(self, indices: np.ndarray) -> Images:
        """Return the set of the images at `indices`."""

    @abstractmethod
    def with_labels(self, labels: np.ndarray) -> Images:
        """Return the same images under other labels."""

    def __len__(self) -> int:
        return len(self.labels)

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

        They are shuffled when `generator` is given. It decides the order and the augmentation: the same state gives the
        same bytes. `drop_last` leaves out a smaller last batch. With `part` only that part of each batch is read and
        yielded, with the same bytes as in the whole. Do not write to what is yielded: it may share memory with the set.

        Raises:
            DataError: the batch size is below 1, an image cannot be read, or random areas are asked for and the images
                are not files.
        """
        areas = None
        if augmentation is not None and augmentation.resized_crop:
            # A seed per file, so that it does not matter which thread decodes it.
            areas = (generator or np.random.default_rng(0)).integers(2**62, size=len(self))
            augmentation = replace(augmentation, resized_crop=False)
        batches = list(batch_indices(len(self), batch_size, generator, drop_last, part))
        for batch, pixels in zip(batches, self.read([batch.indices for batch in batches], areas), strict=True):
            if augmentation is not None:
                pixels = augment(pixels, augmentation, generator, batch.whole, batch.part)
            yield pixels, self.labels[batch.indices]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels and labels at `indices`, in that order."""
        pixels = np.empty((len(indices), *self.shape), np.uint8)
        filled = 0
        for chunk in self._read_in_chunks(indices):
            pixels[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        return pixels, self.labels[indices]

    def fingerprint(self) -> str:
        """Return a SHA-256 that is the same for the same data on every machine.

        It covers the shape, all labels, and the pixels of up to 4096 evenly spaced images.
        """
        digest = hashlib.sha256(repr((len(self), *self.shape)).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        for pixels in self._read_in_chunks(evenly_spaced(len(self), _SAMPLED)):
            digest.update(pixels.tobytes())
        return digest.hexdigest()

    def among(self, others: Images) -> np.ndarray:
        """Return which of the images another set holds too, byte for byte and whatever their labels, bool (N,).

        Raises:
            DataError: an image cannot be read.
        """
        if self.shape != others.shape:
            return np.zeros(len(self), dtype=bool)
        return np.fromiter((one in others._known for one in self._hashes()), dtype=bool, count=len(self))

    @cached_property
    def _known(self) -> frozenset[bytes]:
        """The hashes of all images, kept since several sets are compared with one."""
        return frozenset(self._hashes())

    def _hashes(self) -> Iterator[bytes]:
        """Yield the SHA-256 of each image's pixels."""
        for pixels in self._read_in_chunks(np.arange(len(self))):
            for image in pixels:
                yield hashlib.sha256(image.tobytes()).digest()

    def _read_in_chunks(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """Yield pixels a chunk at a time, so that decoded or changed images need not all fit in memory."""
        return self.read(in_chunks(indices, max(1, _CHUNK_BYTES // math.prod(self.shape))))


class Batch(NamedTuple):
    """What to read of a batch.

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
    """Yield what to read of each batch: shuffled by the generator, or slices in order without one."""
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


def checked_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """Return `labels` as int64 (count,).

    Raises:
        DataError: the labels are not integers, negative, of another rank, or not `count` of them.
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
    """Return an array cut along its first axis into parts of `size`, the last perhaps smaller; no parts if empty."""
    return [values[start : start + size] for start in range(0, len(values), size)]
