"""Handwritten digits, 1,797 grey images of 8 x 8, which come inside scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.images import MemoryImages
from subspace_serve.data.sources.source import Options, Source
from subspace_serve.data.splits import carve
from subspace_serve.errors import DataError

_TEST_IMAGES = 360
_TEST_SEED = 0
_LARGEST_VALUE = 16


def read_digits(path: Path | None, options: Options) -> Source:
    """Read the digits; 360 of them are the test set, the same ones always."""
    from sklearn.datasets import load_digits  # slow to import, and only wanted here

    if path is not None:
        raise DataError(f"digits comes with scikit-learn and has no path; found {path}; write digits")
    bunch = load_digits()
    values = np.round(bunch.images * (255 / _LARGEST_VALUE)).astype(np.uint8)
    images = MemoryImages(values[..., np.newaxis], bunch.target)
    train, test = carve(images.labels, _TEST_IMAGES, _TEST_SEED)
    return Source(
        name="digits",
        label_names=tuple(str(digit) for digit in range(10)),
        augmentation=Augmentation(padding=1),
        train=images.subset(train),
        test=images.subset(test),
    )
