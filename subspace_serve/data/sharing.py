"""Which images two sets share, told by what they hold and not by their names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from subspace_serve.data.folder import FolderImages
from subspace_serve.data.images import Images
from subspace_serve.data.views import ChangedImages, CorruptedImages
from subspace_serve.errors import DataError
from subspace_serve.files import sha256_of

_LAST_BYTES = 64


def shared(images: Images, others: Images) -> np.ndarray:
    """Return which of the images another set holds too, whatever their labels, bool (N,).

    Corrupted images are those that they are made of. Files are compared with files as they lie on the disk, without
    decoding them; all else by its pixels.

    Raises:
        DataError: an image cannot be read.
    """
    images, others = uncorrupted(images), uncorrupted(others)
    files = files_of(images)
    if files is None or files_of(others) is None:
        return images.among(others)
    copies = copied_files(images, others)
    return np.array([files.path_of(index) in copies for index in range(len(files))], dtype=bool)


def uncorrupted(images: Images) -> Images:
    """Return the images that corrupted ones are made of when they are read; all others as they are."""
    return images.images if isinstance(images, CorruptedImages) else images


def files_of(images: Images) -> FolderImages | None:
    """Return the image files that are read, whatever they are changed to; None of images in arrays."""
    while isinstance(images, ChangedImages):
        images = images.images
    return images if isinstance(images, FolderImages) else None


def copied_files(images: Images, originals: Images) -> dict[Path, Path]:
    """Return which image files equal a file of another set byte for byte, with that file.

    Nearly all files differ in size or in their last bytes, so that few are read whole. Images in arrays are not
    compared.

    Raises:
        DataError: a file cannot be read.
    """
    mine, theirs = files_of(images), files_of(originals)
    if mine is None or theirs is None:
        return {}
    found, known = ([part.path_of(index) for index in range(len(part))] for part in (mine, theirs))
    themselves = {path: path for path in set(found).intersection(known)}
    found = [path for path in found if path not in themselves]
    original: dict[object, Path] = {}
    try:
        for key in (os.path.getsize, _end, sha256_of):
            if not found:
                return themselves
            original = {_known(theirs, key, path): path for path in known}
            found = [path for path in found if _known(mine, key, path) in original]
            in_both = {_known(mine, key, path) for path in found}
            known = [path for path in known if _known(theirs, key, path) in in_both]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}); put the file back") from error
    return themselves | {path: original[_known(mine, sha256_of, path)] for path in found}


_Key = Callable[[Path], object]
_KNOWN: WeakKeyDictionary[FolderImages, dict[tuple[_Key, Path], object]] = WeakKeyDictionary()
"""What was found out of the files of sets that are in use: large ones are compared with several others."""


def _known(images: FolderImages, key: _Key, path: Path) -> object:
    """Return a key of one of a set's files, reading the file once."""
    known = _KNOWN.setdefault(images, {})
    if (key, path) not in known:
        known[key, path] = key(path)
    return known[key, path]


def _end(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST_BYTES))
        return file.read()
