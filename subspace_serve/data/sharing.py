"""Which images two sets share, told by what they hold and not by their names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

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
    keys: tuple[Callable[[Path], object], ...] = (os.path.getsize, _end, sha256_of)
    key_of: dict[Path, object] = {}
    try:
        for key in keys:
            key_of = {path: key(path) for path in [*found, *known]}
            in_both = {key_of[path] for path in found} & {key_of[path] for path in known}
            found, known = ([path for path in paths if key_of[path] in in_both] for paths in (found, known))
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}); put the file back") from error
    original = {key_of[path]: path for path in known}
    return {path: original[key_of[path]] for path in found}


def _end(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST_BYTES))
        return file.read()
