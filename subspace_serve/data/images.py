"""Labelled images: what every data set yields, and the sets that fit in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from subspace_serve.data.augmentation import Augmentation, augment
from subspace_serve.errors import DataError

_SAMPLED = 4096
_CHUNK = 1024

Part = Callable[[int], slice]
"""Which images of a batch of so many are wanted, as a slice from `start` to `stop`."""


class Images(Protocol):
    """Labelled images, wherever they lie: pixels uint8 (N, height, width, channels), labels int64 (N,)."""

    @property
    def labels(self) -> Tensor: ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        ...

    def __len__(self) -> int: ...

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augmentation: Augmentation | None = None,
        drop_last: bool = False,
        part: Part | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once, as pixels and labels, `batch_size` at a time; the last batch may be smaller.

        Shuffled when `generator` is given. It decides the order and the augmentation: the same state gives
        the same bytes. `drop_last` leaves out a smaller last batch. With `part` only that part of each batch is read
        and yielded, in the same bytes as without. What is yielded is for reading only, as it may share memory with
        the set.
        """
        ...

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels and labels at `indices`, in that order."""
        ...

    def subset(self, indices: Tensor) -> Images:
        """Return the set of the images at `indices`."""
        ...

    def with_labels(self, labels: Tensor) -> Images:
        """Return the same images under other labels."""
        ...

    def fingerprint(self) -> str:
        """Return a SHA-256 that is the same for the same data on every machine."""
        ...


class MemoryImages:
    """Images that lie in memory and are augmented a batch at a time."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        """Hold `pixels`, uint8 (N, height, width, channels), and `labels`, integers (N,); neither is copied.

        Raises:
            DataError: pixels or labels of another type or rank, or not as many of one as of the other.
        """
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise DataError(
                f"images must be uint8 of shape (N, height, width, channels); "
                f"found {_name(pixels.dtype)} of shape {tuple(pixels.shape)}; convert them"
            )
        self.pixels = pixels.contiguous()
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
        generator: torch.Generator | None = None,
        augmentation: Augmentation | None = None,
        drop_last: bool = False,
        part: Part | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batch_indices(len(self), batch_size, generator, drop_last, part):
            pixels = self.pixels[batch.indices]
            if augmentation is not None:
                pixels = augment(pixels, augmentation, generator, batch.whole, batch.part)
            yield pixels, self.labels[batch.indices]

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.pixels[indices], self.labels[indices]

    def subset(self, indices: Tensor) -> MemoryImages:
        return MemoryImages(*self.take(indices))

    def with_labels(self, labels: Tensor) -> MemoryImages:
        return MemoryImages(self.pixels, labels)

    def resized(self, height: int, width: int) -> MemoryImages:
        """Return the images at another size (bilinear, antialiased)."""
        if self.shape[:2] == (height, width):
            return self
        pixels = torch.empty(len(self), height, width, self.shape[2], dtype=torch.uint8)
        for target, chunk in zip(pixels.split(_CHUNK), self.pixels.split(_CHUNK), strict=True):
            target.copy_(resize(chunk, height, width))
        return MemoryImages(pixels, self.labels)

    def fingerprint(self) -> str:
        """Return the SHA-256 of shape, labels and the pixels of up to 4096 evenly spaced images."""
        return fingerprint(self)


def fingerprint(images: Images) -> str:
    """Return the SHA-256 of shape, labels and the pixels of up to 4096 evenly spaced images, wherever they lie."""
    digest = hashlib.sha256(repr((len(images), *images.shape)).encode())
    digest.update(images.labels.numpy().astype("<i8").tobytes())
    # In chunks, which change no byte of the digest: 4096 images need not fit in memory.
    for chunk in evenly_spaced(len(images), _SAMPLED).split(_CHUNK):
        digest.update(images.take(chunk)[0].numpy().tobytes())
    return digest.hexdigest()


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Return a batch, uint8 (N, height, width, channels), at another size (bilinear, antialiased)."""
    planes = pixels.permute(0, 3, 1, 2)
    smooth = functional.interpolate(planes, (height, width), mode="bilinear", antialias=True)
    return smooth.permute(0, 2, 3, 1)


class Batch(NamedTuple):
    """What is read of a batch.

    Attributes:
        indices: where the images lie in the set.
        whole: how many images the whole batch has.
        part: which of them these are.
    """

    indices: Tensor | slice
    whole: int
    part: slice


def batch_indices(
    count: int, batch_size: int, generator: torch.Generator | None, drop_last: bool, part: Part | None = None
) -> Iterator[Batch]:
    """Yield what is read of each batch: shuffled by the generator, or slices in order without one."""
    if batch_size < 1:
        raise DataError(f"the batch size must be at least 1; found {batch_size}; give a larger one")
    order = None if generator is None else torch.randperm(count, generator=generator)
    for start in range(0, count, batch_size):
        stop = min(start + batch_size, count)
        if drop_last and stop - start < batch_size:
            return
        wanted = slice(0, stop - start) if part is None else part(stop - start)
        first, last = start + wanted.start, start + wanted.stop
        yield Batch(slice(first, last) if order is None else order[first:last], stop - start, wanted)


def checked_labels(labels: Tensor, count: int) -> Tensor:
    """Return `labels` as int64 (count,).

    Raises:
        DataError: labels that are not integers, negative, of another rank, or not `count` of them.
    """
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
        raise DataError(f"labels must be integers; found {_name(labels.dtype)}; give the index of each image's class")
    if labels.shape != (count,):
        raise DataError(
            f"labels must be one integer per image, shape ({count},); found shape {tuple(labels.shape)}; "
            "give the index of each image's class"
        )
    if count and int(labels.min()) < 0:
        raise DataError(f"labels count from 0; found {int(labels.min())}; number the classes 0, 1, 2, ...")
    return labels.to(torch.int64)


def evenly_spaced(count: int, most: int) -> Tensor:
    """Return at most `most` indices below `count`, evenly spaced and ascending."""
    taken = min(count, most)
    return torch.arange(taken) * count // max(taken, 1)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
