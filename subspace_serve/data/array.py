"""Images that lie in an array: in memory, or on disk for sets larger than memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from subspace_serve.data.images import Images, checked_labels
from subspace_serve.errors import DataError

_RANK = 4


class ArrayImages(Images):
    """Images in a NumPy array, usually a memory-mapped one; only those that are asked for are read.

    A subset is a list of rows. Nothing is copied until a batch is read, and then only that batch.
    """

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Hold the images at `rows` of an array.

        Args:
            pixels: uint8 (rows, height, width, channels).
            labels: integers (N,).
            rows: int64 (N,), where each image lies in `pixels`; None for all of them, in order.

        Raises:
            DataError: pixels or labels have another type or rank, or their numbers differ.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != _RANK:
            raise DataError(
                f"images must be uint8 of shape (N, height, width, channels); "
                f"found {pixels.dtype} of shape {pixels.shape}; convert them"
            )
        self.pixels = pixels
        self.rows = rows
        self.labels = checked_labels(labels, len(pixels) if rows is None else len(rows))

    @property
    def shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.pixels.shape
        return height, width, channels

    def read(self, chosen: Iterable[np.ndarray | slice], areas: np.ndarray | None = None) -> Iterator[np.ndarray]:
        if areas is not None:
            raise DataError(
                "random resized crops are for folders of image files; "
                "found images in memory; use Augmentation(padding=..., flip=...)"
            )
        return map(self._at, chosen)

    def subset(self, indices: np.ndarray) -> ArrayImages:
        return ArrayImages(self.pixels, self.labels[indices], indices if self.rows is None else self.rows[indices])

    def with_labels(self, labels: np.ndarray) -> ArrayImages:
        return ArrayImages(self.pixels, labels, self.rows)

    def _at(self, indices: np.ndarray | slice) -> np.ndarray:
        # Copied, so that the result is writable; in C order, whatever the file's order is.
        return np.array(self.pixels[indices if self.rows is None else self.rows[indices]], order="C")


class MemoryImages(ArrayImages):
    """Images that lie in memory, one after another."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        """Hold `pixels`, uint8 (N, height, width, channels), and `labels`, integers (N,).

        Pixels in C order and int64 labels are not copied.

        Raises:
            DataError: pixels or labels have another type or rank, or their numbers differ.
        """
        super().__init__(pixels, labels)
        self.pixels = np.ascontiguousarray(pixels)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.pixels[indices], self.labels[indices]

    def subset(self, indices: np.ndarray) -> MemoryImages:
        return MemoryImages(*self.take(indices))

    def with_labels(self, labels: np.ndarray) -> MemoryImages:
        return MemoryImages(self.pixels, labels)

    def _at(self, indices: np.ndarray | slice) -> np.ndarray:
        return self.pixels[indices]
