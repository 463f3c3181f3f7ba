"""MNIST-C: <type>/{train,test}_{images,labels}.npy, without severities."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from subspace_serve.data.array import ArrayImages
from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.sources.arrays import checked_pixels, integer_labels, open_npy
from subspace_serve.data.sources.corrupted_sets import Contents, CorruptedReader
from subspace_serve.data.sources.source import Options, Source


def _contents(path: Path) -> Contents:
    return {file.parent.name: () for file in sorted(path.glob("*/test_images.npy"))}


def _read(path: Path, corruption: str, severity: int, options: Options) -> Source:
    folder = path / corruption
    return Source(
        name="mnist-c",
        label_names=tuple(str(digit) for digit in range(10)),
        augmentation=Augmentation(padding=2),
        train=_images(folder, "train") if (folder / "train_images.npy").is_file() else None,
        test=_images(folder, "test"),
        default="test",
    )


def _images(folder: Path, split: str) -> ArrayImages:
    images, labels = (folder / f"{split}_{kind}.npy" for kind in ("images", "labels"))
    pixels = checked_pixels(open_npy(images), f"the images in {images}")
    return ArrayImages(pixels, integer_labels(np.asarray(open_npy(labels)), len(pixels), f"the labels in {labels}"))


MNIST_C = CorruptedReader(_contents, _read, trains=True)
