"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32, in the pickles in which they are published."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.data.array import MemoryImages
from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.preprocessing import Preprocessing
from subspace_serve.data.sources.download import download, md5_of
from subspace_serve.data.sources.plain_pickle import read_plain_pickle
from subspace_serve.data.sources.source import Options, Source, data_root, first_with, missing
from subspace_serve.errors import DataError
from subspace_serve.files import atomic_file

_SIDE = 32
_CHANNELS = 3


@dataclass(frozen=True)
class _Set:
    """One of the sets.

    Attributes:
        name: its name in specifications.
        folder: the folder that holds its files.
        address: where its archive is.
        archive_md5: the archive's checksum.
        train, test, meta: its files and their checksums.
        label_names, labels: the keys of the classes' names in `meta`, and of the labels in the other files.
        preprocessing: the published constants.
    """

    name: str
    folder: str
    address: str
    archive_md5: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    meta: Mapping[str, str]
    label_names: str
    labels: str
    preprocessing: Preprocessing

    @property
    def files(self) -> dict[str, str]:
        """Every file with its checksum."""
        return {**self.train, **self.test, **self.meta}


CIFAR10 = _Set(
    name="cifar10",
    folder="cifar-10-batches-py",
    address="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    archive_md5="c58f30108f718f92721af3b95e74349a",
    train={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    meta={"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
    label_names="label_names",
    labels="labels",
    preprocessing=Preprocessing(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
)
CIFAR100 = _Set(
    name="cifar100",
    folder="cifar-100-python",
    address="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    meta={"meta": "7973b15100ade9c7d40fb424638fde48"},
    label_names="fine_label_names",
    labels="fine_labels",
    preprocessing=Preprocessing(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
)


def read_cifar10(path: Path | None, options: Options) -> Source:
    """Read CIFAR-10 from `cifar-10-batches-py`."""
    return _read(CIFAR10, path, options)


def read_cifar100(path: Path | None, options: Options) -> Source:
    """Read CIFAR-100, with its 100 fine classes, from `cifar-100-python`."""
    return _read(CIFAR100, path, options)


def _read(which: _Set, path: Path | None, options: Options) -> Source:
    root = path or data_root()
    first_file = next(iter(which.train))
    places = [root, root / which.folder]
    folder = first_with(first_file, places)
    if folder is None and options.download:
        _download(which, root)
        folder = first_with(first_file, places)
    if folder is None:
        remedy = f"name the folder that holds {which.folder} with {which.name}:PATH, or use --download"
        raise missing(which.name, places, remedy)
    _check(which, folder)
    (meta,) = (read_plain_pickle(folder / file) for file in which.meta)
    return Source(
        name=which.name,
        label_names=tuple(meta[which.label_names]),
        augmentation=Augmentation(padding=4, flip=True),
        preprocessing=which.preprocessing,
        train=_images([read_plain_pickle(folder / file) for file in which.train], which.labels),
        test=_images([read_plain_pickle(folder / file) for file in which.test], which.labels),
    )


def _check(which: _Set, folder: Path) -> None:
    """Refuse files that are not the published ones: they are pickles, which could run anything when loaded."""
    for file, md5 in which.files.items():
        path = folder / file
        found = md5_of(path) if path.is_file() else "no file"
        if found != md5:
            raise DataError(
                f"the files of {which.name} in {folder} are not the published ones ({file} should have the MD5 {md5}; "
                f"found {found}); they are pickles and stay unread; delete them and get them again"
            )


def _images(batches: Sequence[Mapping[str, Any]], labels: str) -> MemoryImages:
    """Return the images of several files, which store each image as one plane of 32 x 32 per channel."""
    planes = np.concatenate([batch["data"] for batch in batches]).reshape(-1, _CHANNELS, _SIDE, _SIDE)
    return MemoryImages(planes.transpose(0, 2, 3, 1), np.concatenate([batch[labels] for batch in batches]))


def _download(which: _Set, root: Path) -> None:
    """Fetch the archive and keep its files."""
    folder, archive = root / which.folder, root / which.address.rpartition("/")[2]
    download(which.name, [which.address], which.archive_md5, archive)
    try:
        with tarfile.open(archive) as opened:
            # The first file, by which the set is recognised, is written last. No path inside the archive is followed.
            for file in reversed(which.files):
                content = opened.extractfile(f"{which.folder}/{file}")
                assert content is not None
                with atomic_file(folder / file) as temporary:
                    temporary.write_bytes(content.read())
        archive.unlink()
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"{which.name} cannot be unpacked in {folder} ({error}); make room, or unpack it there"
        ) from error
