"""A data set ready for training: three disjoint parts, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.file_check import FileCheck
from subspace_serve.data.images import Images
from subspace_serve.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class DataSet:
    """Images to train on, to choose on and to report on; no image is in two of them.

    Attributes:
        spec: the specification that named it.
        label_names: one per class.
        preprocessing: normalisation of its pixels.
        augmentation: how its training images vary.
        fingerprint: SHA-256 of the data as published, wherever they are stored and however they were divided.
        validation_seed: decided which images are for validation; None where the set publishes its validation images.
        validation_count: how many they are.
        test_carved: the set publishes no test images, so some of its training images were set aside.
        left_aside: folders beside those of its parts, which were not read.
        files: what checking every image file found; None where they were not checked.
    """

    name: str
    spec: str
    label_names: tuple[str, ...]
    preprocessing: Preprocessing
    augmentation: Augmentation
    train: Images
    validation: Images
    test: Images
    fingerprint: str
    validation_seed: int | None
    validation_count: int
    test_carved: bool = False
    left_aside: tuple[str, ...] = ()
    files: FileCheck | None = None

    @property
    def classes(self) -> int:
        return len(self.label_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.train.shape

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint records of the data it was trained on."""
        return {
            "name": self.name,
            "spec": self.spec,
            "fingerprint": self.fingerprint,
            "counts": {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)},
            "validation_seed": self.validation_seed,
            "test_carved": self.test_carved,
        }
