"""Handwritten digits, 1,797 grey images of 8 x 8, which come inside scikit-learn."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from subspace_serve.data.array import MemoryImages
from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.drawing import carve
from subspace_serve.data.sources.source import Options, Source
from subspace_serve.errors import DataError
from subspace_serve.packages import is_installed

_TEST_IMAGES = 360
_TEST_SEED = 0
_LARGEST_VALUE = 16


def read_digits(path: Path | None, options: Options) -> Source:
    """Read the digits; 360 of them, always the same, are the test set.

    Raises:
        DataError: a path is given.
    """
    if path is not None:
        raise DataError(f"digits comes with scikit-learn and has no path; found {path}; write digits")
    values, labels = _values()
    images = MemoryImages(np.round(values * (255 / _LARGEST_VALUE)).astype(np.uint8), labels)
    train, test = carve(images.labels, _TEST_IMAGES, _TEST_SEED)
    return Source(
        name="digits",
        label_names=tuple(str(digit) for digit in range(10)),
        augmentation=Augmentation(padding=1),
        train=images.subset(train),
        test=images.subset(test),
    )


def _values() -> tuple[np.ndarray, np.ndarray]:
    """Return grey values from 0 to 16, (N, 8, 8, 1), and labels (N,)."""
    found = importlib.util.find_spec("sklearn") if is_installed("sklearn") else None
    file = Path(found.origin or "" if found else "").parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return bunch.images[..., np.newaxis], bunch.target
    # Importing scikit-learn, which would read the same file, takes longer than an evaluation.
    with gzip.open(file, "rb") as opened:
        rows = np.array([line.split(b",") for line in opened.read().splitlines()]).astype(np.float64)
    return rows[:, :-1].reshape(-1, 8, 8, 1), rows[:, -1].astype(np.int64)
