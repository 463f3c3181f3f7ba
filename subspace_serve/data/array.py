"""Images in an array that stays on disk: for sets larger than memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from subspace_serve.data.augmentation import Augmentation, augment
from subspace_serve.data.images import Part, batch_indices, check_pixels, checked_labels, fingerprint


class ArrayImages:
    """Images in a NumPy array, usually a memory-mapped one; only those that are asked for are read.

    A subset is a list of rows. Nothing is copied before a batch is read, and then no more than the batch.
    """

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Hold the images at `rows` of an array.

        Args:
            pixels: uint8 (rows, height, width, channels).
            labels: integers (N,).
            rows: int64 (N,), where each image lies in `pixels`; None for all of them, in order.

        Raises:
            DataError: pixels or labels of another type or rank, or not as many of one as of the other.
        """
        check_pixels(pixels)
        self.pixels = pixels
        self.rows = rows
        self.labels = checked_labels(labels, len(pixels) if rows is None else len(rows))

    @property
    def shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.pixels.shape
        return height, width, channels

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
        for batch in batch_indices(len(self), batch_size, generator, drop_last, part):
            pixels = self._read(batch.indices)
            if augmentation is not None:
                pixels = augment(pixels, augmentation, generator, batch.whole, batch.part)
            yield pixels, self.labels[batch.indices]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._read(indices), self.labels[indices]

    def subset(self, indices: np.ndarray) -> ArrayImages:
        return ArrayImages(self.pixels, self.labels[indices], indices if self.rows is None else self.rows[indices])

    def with_labels(self, labels: np.ndarray) -> ArrayImages:
        return ArrayImages(self.pixels, labels, self.rows)

    def fingerprint(self) -> str:
        """Return the same SHA-256 as for these images in memory."""
        return fingerprint(self)

    def _read(self, indices: np.ndarray | slice) -> np.ndarray:
        # Copied, so that what is read can be written to; C order, whatever the file's is.
        return np.array(self.pixels[indices if self.rows is None else self.rows[indices]], order="C")
