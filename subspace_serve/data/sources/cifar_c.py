"""CIFAR-10-C, CIFAR-100-C and sets in their layout: <type>.npy with all severities, and labels.npy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from subspace_serve.data.array import ArrayImages
from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.sources.arrays import checked_pixels, integer_labels, open_npy
from subspace_serve.data.sources.cifar_names import CIFAR10_NAMES, CIFAR100_NAMES
from subspace_serve.data.sources.copy_record import read_record
from subspace_serve.data.sources.corrupted_sets import SEVERITIES, Contents, CorruptedReader, check_rows
from subspace_serve.data.sources.source import Options, Source, first_with
from subspace_serve.errors import DataError

LABELS = "labels"


def _published(name: str, folder: str, label_names: tuple[str, ...]) -> CorruptedReader:
    """Return the reader of a published set, whose path is `folder` or the folder above."""

    def find(path: Path) -> Path:
        return first_with(f"{LABELS}.npy", [path, path / folder]) or path

    def contents(path: Path) -> Contents:
        return dict.fromkeys(_types(find(path)), SEVERITIES)

    def read(path: Path, corruption: str, severity: int, options: Options) -> Source:
        return _source(name, find(path), corruption, severity, SEVERITIES, label_names)

    return CorruptedReader(contents, read)


def _copy_contents(path: Path) -> Contents:
    record = read_record(path)
    return dict.fromkeys(record.corruptions, record.severities)


def _read_copy(path: Path, corruption: str, severity: int, options: Options) -> Source:
    record = read_record(path)
    return _source("corrupted", path, corruption, severity, record.severities, record.label_names)


CIFAR10_C = _published("cifar10-c", "CIFAR-10-C", CIFAR10_NAMES)
CIFAR100_C = _published("cifar100-c", "CIFAR-100-C", CIFAR100_NAMES)
CORRUPTED_COPY = CorruptedReader(_copy_contents, _read_copy)


def _types(path: Path) -> list[str]:
    return sorted(file.stem for file in path.glob("*.npy") if file.stem != LABELS)


def _source(
    name: str,
    folder: Path,
    corruption: str,
    severity: int,
    severities: tuple[int, ...],
    label_names: tuple[str, ...],
) -> Source:
    """Return the rows of one severity: the first of `severities` lies first."""
    path = folder / f"{corruption}.npy"
    pixels = checked_pixels(open_npy(path), f"the images in {path}")
    count = check_rows(path, len(pixels), len(severities))
    labels_file = folder / f"{LABELS}.npy"
    labels = integer_labels(np.asarray(open_npy(labels_file)), len(pixels), f"the labels in {labels_file}")
    by_severity = labels.reshape(len(severities), count)
    if not (by_severity == by_severity[0]).all():
        raise DataError(
            f"{labels_file} should repeat the same {count} labels for each of the severities "
            f"{', '.join(map(str, severities))}; found others; get it again"
        )
    place = severities.index(severity)
    return Source(
        name=name,
        label_names=label_names,
        augmentation=Augmentation(),
        test=ArrayImages(pixels[place * count : (place + 1) * count], by_severity[place]),
    )
