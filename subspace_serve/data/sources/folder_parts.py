"""Which folders are the training, validation and test images, and which are the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from subspace_serve.data.sources.listing import folders_in, has_images
from subspace_serve.errors import DataError
from subspace_serve.suggestions import listed

_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""The usual names of parts, compared without regard to case."""


class Parts(NamedTuple):
    """The folders of a data set.

    Attributes:
        folders: the folder of each part that is there.
        beside: folders beside them, which are not read.
    """

    folders: dict[str, Path]
    beside: tuple[str, ...] = ()


def find_parts(root: Path, classes: Sequence[str] = ()) -> Parts:
    """Return the folder of each part; where the folders in `root` are classes, all of it is for training.

    A class may be called train (beside bus and tram), but then it holds no folders, and no other class has the name of
    a part unless the `classes` are known already.

    Raises:
        DataError: two folders are the same part, or there are classes beside parts but no training part, so that the
            parts would be trained on as classes.
    """
    names = folders_in(root)
    parts = (name for name in names if name.lower() in _NAMES)
    found = [name for name in parts if name not in classes or folders_in(root / name)]
    beside = tuple(name for name in names if name not in found)
    folders: dict[str, Path] = {}
    for name in found:
        part = _NAMES[name.lower()]
        if part in folders:
            raise DataError(f"{root} has two folders of {part} images, {folders[part].name} and {name}; keep one")
        folders[part] = root / name
    holding = any(folders_in(folder) for folder in folders.values())
    if not folders or (beside and len(folders) == 1 and not holding):
        return Parts({"train": root})
    if beside and "train" not in folders:
        raise DataError(
            f"{root} has {listed(found)} beside {listed(beside)}: parts beside classes; put the classes to train on "
            "into a folder train, or take the parts away"
        )
    return Parts({part: folders[part] for part in dict.fromkeys(_NAMES.values()) if part in folders}, beside)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the names of a folder's folders, sorted.

    Raises:
        DataError: there are none.
    """
    names = folders_in(folder) if folder.is_dir() else []
    if not names and folder.is_dir() and has_images(folder):
        raise DataError(
            f"{folder} has images and no folders, one per class; put each class's images into a folder of its own, or "
            "give the folder above if this is a class"
        )
    if not names:
        raise DataError(
            f"{folder} holds no images: it has no folders, one per class, to find any in; make them, or take it away"
        )
    return tuple(names)
