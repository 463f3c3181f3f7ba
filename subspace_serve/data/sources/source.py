"""A data set as published, and what all readers share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.images import Images
from subspace_serve.data.preprocessing import Preprocessing
from subspace_serve.errors import DataError

ROOT_VARIABLE = "SUBSPACE_SERVE_DATA"


@dataclass(frozen=True)
class Options:
    """What a user can ask of a reader; each reader uses the options that apply to it.

    Attributes:
        image_size: height and width in pixels to which image files are decoded; None for the set's own.
        channels: of images decoded from files.
        label_names: the classes in the order wanted; None for the set's own.
        labelled: refuse images without labels; if false, such images are all labelled 0.
        download: fetch what is missing, where the set can be fetched.
    """

    image_size: tuple[int, int] | None = None
    channels: int = 3
    label_names: tuple[str, ...] | None = None
    labelled: bool = True
    download: bool = False


@dataclass(frozen=True)
class Source:
    """A data set as published, before anything is carved out of it.

    Attributes:
        preprocessing: the published constants; None to compute them from the training images.
        default: the split that is meant when none is named; None where there is only one, or one must be named.
        left_aside: folders beside those of the splits, which are not read.
    """

    name: str
    label_names: tuple[str, ...]
    augmentation: Augmentation
    preprocessing: Preprocessing | None = None
    train: Images | None = None
    validation: Images | None = None
    test: Images | None = None
    default: str | None = None
    left_aside: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, Images]:
        """The splits that are there, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: images for name, images in named.items() if images is not None}


Reader = Callable[[Path | None, Options], Source]


def data_root() -> Path:
    """Return the folder of named sets: the environment variable SUBSPACE_SERVE_DATA, or ./data."""
    return Path(os.environ.get(ROOT_VARIABLE) or "data")


def first_with(file: str, folders: Iterable[Path]) -> Path | None:
    """Return the first of `folders` that holds `file`."""
    return next((folder for folder in folders if (folder / file).is_file()), None)


def missing(name: str, looked: Iterable[Path], remedy: str) -> DataError:
    """Return the error for a data set that is not there."""
    places = ", ".join(str(place) for place in looked)
    return DataError(f"the data set {name} is not there; looked in {places}; {remedy}")


def need_path(name: str, path: Path | None) -> Path:
    """Return the folder that a set needs.

    Raises:
        DataError: none is given, or it does not exist.
    """
    if path is None:
        raise DataError(f"{name} needs the folder it lies in; found no path; write {name}:PATH")
    if not path.is_dir():
        raise DataError(f"{name} lies in a folder; found none at {path}; give the folder's path")
    return path
