"""The layouts of corrupted sets: arrays as CIFAR-10-C's and MNIST-C's, and image files as ImageNet-C's.

MedMNIST-C's archives are read in `medmnist_c`.
"""

from __future__ import annotations

from pathlib import Path

from subspace_serve.data.array import ArrayImages
from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.sources.arrays import open_images, read_labels
from subspace_serve.data.sources.cifar_names import CIFAR10_NAMES, CIFAR100_NAMES
from subspace_serve.data.sources.copy_record import read_record
from subspace_serve.data.sources.corrupted_sets import SEVERITIES, Contents, CorruptedReader, check_rows
from subspace_serve.data.sources.folder_parts import class_folders
from subspace_serve.data.sources.image_folder import IMAGENET_SIZE, TINY_IMAGENET_SIZE, labelled_files
from subspace_serve.data.sources.listing import folders_in
from subspace_serve.data.sources.medmnist_c import MEDMNIST_C
from subspace_serve.data.sources.source import Options, Source, first_with
from subspace_serve.errors import DataError

LABELS = "labels"

# CIFAR-10-C, CIFAR-100-C and sets in their layout: <type>.npy with all severities, and labels.npy.


def _published(name: str, folder: str, label_names: tuple[str, ...]) -> CorruptedReader:
    """Return the reader of a published set, whose path is `folder` or the folder above."""

    def find(path: Path) -> Path:
        return first_with(f"{LABELS}.npy", [path, path / folder]) or path

    def contents(path: Path) -> Contents:
        types = sorted(file.stem for file in find(path).glob("*.npy") if file.stem != LABELS)
        return dict.fromkeys(types, SEVERITIES)

    def read(path: Path, corruption: str, severity: int, options: Options) -> Source:
        return _one_severity(name, find(path), corruption, severity, SEVERITIES, label_names)

    return CorruptedReader(contents, read)


def _copy_contents(path: Path) -> Contents:
    record = read_record(path)
    return dict.fromkeys(record.corruptions, record.severities)


def _read_copy(path: Path, corruption: str, severity: int, options: Options) -> Source:
    record = read_record(path)
    return _one_severity("corrupted", path, corruption, severity, record.severities, record.label_names)


def _one_severity(
    name: str,
    folder: Path,
    corruption: str,
    severity: int,
    severities: tuple[int, ...],
    label_names: tuple[str, ...],
) -> Source:
    """Return the rows of one severity: the first of `severities` lies first."""
    path = folder / f"{corruption}.npy"
    labels_file = folder / f"{LABELS}.npy"
    pixels = open_images(path)
    count = check_rows(path, len(pixels), len(severities))
    by_severity = read_labels(labels_file, len(pixels)).reshape(len(severities), count)
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


# MNIST-C: <type>/{train,test}_{images,labels}.npy, without severities.


def _mnist_contents(path: Path) -> Contents:
    return {file.parent.name: () for file in sorted(path.glob("*/test_images.npy"))}


def _read_mnist(path: Path, corruption: str, severity: int, options: Options) -> Source:
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
    pixels = open_images(folder / f"{split}_images.npy")
    return ArrayImages(pixels, read_labels(folder / f"{split}_labels.npy", len(pixels)))


# ImageNet-C and Tiny-ImageNet-C: <type>/<severity>/<wnid>/ with image files.


def _files_contents(path: Path) -> Contents:
    found = {}
    for name in folders_in(path):
        severities = tuple(severity for severity in SEVERITIES if (path / name / str(severity)).is_dir())
        if severities:
            found[name] = severities
    return found


def _of_files(name: str, own_size: int, *, cropped: bool) -> CorruptedReader:
    def read(path: Path, corruption: str, severity: int, options: Options) -> Source:
        folder = path / corruption / str(severity)
        label_names = options.label_names or class_folders(folder)
        size = options.image_size or (own_size, own_size)
        files = labelled_files(
            folder, label_names, size, options, need_every=options.label_names is None, cropped=cropped
        )
        return Source(name=name, label_names=label_names, augmentation=Augmentation(), test=files)

    return CorruptedReader(_files_contents, read)


# Named with a type of corruption and a severity, as in cifar10-c:PATH:fog:3.
CORRUPTED_READERS: dict[str, CorruptedReader] = {
    "cifar10-c": _published("cifar10-c", "CIFAR-10-C", CIFAR10_NAMES),
    "cifar100-c": _published("cifar100-c", "CIFAR-100-C", CIFAR100_NAMES),
    "tiny-imagenet-c": _of_files("tiny-imagenet-c", TINY_IMAGENET_SIZE, cropped=False),
    # Its files are the middle 224 pixels of pictures whose shorter side was 256; they are not to be cut again.
    "imagenet-c": _of_files("imagenet-c", IMAGENET_SIZE, cropped=True),
    "medmnist-c": MEDMNIST_C,
    "mnist-c": CorruptedReader(_mnist_contents, _read_mnist, trains=True),
    "corrupted": CorruptedReader(_copy_contents, _read_copy),
}
