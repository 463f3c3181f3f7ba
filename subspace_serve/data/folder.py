"""Labelled image files on disk: for sets that do not fit in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from subspace_serve.cores import available_cores
from subspace_serve.data.decoding import CHANNELS, Decoder, decode_batches
from subspace_serve.data.images import Images, checked_labels, evenly_spaced
from subspace_serve.errors import DataError

_SAMPLED = 4096
_MOST_WORKERS = 8
_FEW_FILES = 512


class FolderImages(Images):
    """Labelled image files under one folder; each is brought to one size when it is decoded."""

    def __init__(
        self,
        root: Path,
        files: Iterable[str | bytes],
        labels: np.ndarray,
        *,
        size: int | tuple[int, int],
        channels: int = 3,
        workers: int | None = None,
        cropped: bool = False,
    ) -> None:
        """Name the files; none is opened yet.

        Args:
            root: the folder.
            files: paths relative to `root`.
            labels: integers (N,).
            size: height and width of every decoded image; one number for a square.
            channels: 3 (RGB) or 1 (grey).
            workers: threads that decode; 0 decodes on the calling thread, None chooses by files and processors.
            cropped: the files are central crops already, so that no border is cut off.

        Raises:
            DataError: the labels do not fit, or the number of channels is neither 1 nor 3.
        """
        if channels not in CHANNELS:
            raise DataError(f"image files are decoded to 1 or 3 channels; found {channels}; use a .npz file instead")
        # One array of bytes rather than a list of strings: for a million names it is a tenth of the size.
        self.files = np.asarray([os.fsencode(file) for file in files], dtype=np.bytes_)
        self.root = root
        self.labels = checked_labels(labels, len(self.files))
        self.size = (size, size) if isinstance(size, int) else size
        self.channels = channels
        self.workers = workers
        self.cropped = cropped

    @property
    def shape(self) -> tuple[int, int, int]:
        return *self.size, self.channels

    def read(self, chosen: Iterable[np.ndarray | slice], areas: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Decode the files as `Images.read` says; the number of workers does not change the result."""
        everything = np.arange(len(self))
        batches = [everything[indices] for indices in chosen]
        decoder = Decoder(*self.shape, self.cropped)
        return decode_batches(decoder, self.root, self.files, batches, seeds=areas, workers=self._worker_count())

    def path_of(self, index: int) -> Path:
        """Return the path of one file."""
        return self.root / os.fsdecode(self.files[index])

    def subset(self, indices: np.ndarray) -> FolderImages:
        return self._like(self.files[indices], self.labels[indices])

    def with_labels(self, labels: np.ndarray) -> FolderImages:
        return self._like(self.files, labels)

    def at_size(self, size: tuple[int, int]) -> FolderImages:
        """Return the same files, decoded at another size."""
        return self._like(self.files, self.labels, size)

    def fingerprint(self) -> str:
        """Return the SHA-256 of names and labels, and of the sizes of up to 4096 evenly spaced files.

        Raises:
            DataError: one of these files is missing.
        """
        digest = hashlib.sha256(b"\0".join(self.files.tolist()))
        digest.update(self.labels.astype("<i8").tobytes())
        for index in evenly_spaced(len(self), _SAMPLED).tolist():
            path = self.path_of(index)
            try:
                digest.update(f"{path.stat().st_size},".encode())
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error.strerror}); put the file back") from error
        return digest.hexdigest()

    def _worker_count(self) -> int:
        if self.workers is not None:
            return self.workers
        return 0 if len(self) < _FEW_FILES else min(available_cores(), _MOST_WORKERS)

    def _like(self, files: np.ndarray, labels: np.ndarray, size: tuple[int, int] | None = None) -> FolderImages:
        return FolderImages(
            self.root,
            files,
            labels,
            size=size or self.size,
            channels=self.channels,
            workers=self.workers,
            cropped=self.cropped,
        )
