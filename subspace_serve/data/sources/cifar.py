"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision import datasets

from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.images import MemoryImages
from subspace_serve.data.preprocessing import Preprocessing
from subspace_serve.data.sources.source import Options, Source, data_root, first_with, missing
from subspace_serve.errors import DataError

CIFAR10 = Preprocessing(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
CIFAR100 = Preprocessing(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))


class _CIFAR10Here(datasets.CIFAR10):
    """CIFAR-10 whose files lie in the root itself, whatever that folder is called."""

    base_folder = ""


class _CIFAR100Here(datasets.CIFAR100):
    """CIFAR-100 whose files lie in the root itself, whatever that folder is called."""

    base_folder = ""


def read_cifar10(path: Path | None, options: Options) -> Source:
    """Read CIFAR-10 from `cifar-10-batches-py`."""
    return _read("cifar10", datasets.CIFAR10, _CIFAR10Here, CIFAR10, path, options)


def read_cifar100(path: Path | None, options: Options) -> Source:
    """Read CIFAR-100, with its 100 fine classes, from `cifar-100-python`."""
    return _read("cifar100", datasets.CIFAR100, _CIFAR100Here, CIFAR100, path, options)


def _read(
    name: str,
    published: type[datasets.CIFAR10],
    here: type[datasets.CIFAR10],
    preprocessing: Preprocessing,
    path: Path | None,
    options: Options,
) -> Source:
    root = path or data_root()
    first_file = published.train_list[0][0]
    places = [root, root / published.base_folder]
    folder = first_with(first_file, places)
    if folder is None and options.download:
        _download(name, published, root)
        folder = first_with(first_file, places)
    if folder is None:
        remedy = f"name the folder that holds {published.base_folder} with {name}:PATH, or use --download"
        raise missing(name, places, remedy)
    try:
        # torchvision unpickles these files, but only those whose checksums are the published ones.
        train, test = here(folder, train=True), here(folder, train=False)
    except RuntimeError as error:
        raise DataError(
            f"the files of {name} in {folder} are not the published ones ({error}); "
            "they are pickles and stay unread; delete them and get them again"
        ) from error
    return Source(
        name=name,
        label_names=tuple(train.classes),
        augmentation=Augmentation(padding=4, flip=True),
        preprocessing=preprocessing,
        train=_in_memory(train),
        test=_in_memory(test),
    )


def _in_memory(dataset: datasets.CIFAR10) -> MemoryImages:
    return MemoryImages(torch.from_numpy(dataset.data), torch.tensor(dataset.targets))


def _download(name: str, published: type[datasets.CIFAR10], root: Path) -> None:
    try:
        published(root, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{name} cannot be downloaded to {root} ({error}); check the connection") from error
