"""Which folders and image files belong to a data set, with each file counted once, whatever links lead to it."""

from __future__ import annotations

import os
from pathlib import Path

from subspace_serve.errors import DataError

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
# Folders that operating systems and tools create, besides those that begin with a dot (.ipynb_checkpoints).
_FOLDERS_OF_SYSTEMS = ("__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones and links to itself or its parents."""
    real = os.path.realpath(folder)
    return [entry.name for entry in _entries(folder) if _is_folder(entry) and not _holds(entry, real)]


def has_images(folder: Path) -> bool:
    """Return whether a folder directly contains image files."""
    return any(_is_image(entry) for entry in _entries(folder))


class Listing:
    """The image files of a data set's folders, each listed once.

    Links are followed, except to a folder that contains them. An image must not be in two classes or two parts: an
    image to train on could otherwise also be one to test on.
    """

    def __init__(self) -> None:
        # The folder for which something was listed: by real path for folders, by folder and name for linked files.
        self._folders: dict[str, Path] = {}
        self._linked: dict[str, dict[str, Path]] = {}

    def images_below(self, folder: Path) -> list[str]:
        """Return the image files below a folder, folder by folder, sorted by name.

        Raises:
            DataError: a folder cannot be read, or some of the images were listed for another folder already.
        """
        start = os.path.realpath(folder)
        found: list[tuple[str, list[str]]] = []
        waiting = [str(folder)]
        while waiting:
            place = waiting.pop()
            real = os.path.realpath(place)
            owner = self._folders.get(real)
            if owner == folder:
                continue
            self._check_owner(owner, folder, real)
            self._folders[real] = folder
            entries = _entries(Path(place))
            images = [entry for entry in entries if _is_image(entry)]
            found.append((place, [entry.path for entry in images if self._is_new(entry, real, folder)]))
            inner = [entry for entry in entries if _is_folder(entry) and not _holds(entry, start)]
            waiting += [entry.path for entry in reversed(inner)]
        return [file for _, files in sorted(found) for file in files]

    def _is_new(self, entry: os.DirEntry[str], real: str, folder: Path) -> bool:
        """Return whether a file was not listed before; remember the target of a link."""
        if not entry.is_symlink():
            owner = self._linked.get(real, {}).get(entry.name)
        else:
            place, name = os.path.split(os.path.realpath(entry.path))
            linked = self._linked.setdefault(place, {})
            # A target that is there, in a folder of the set, is listed itself.
            listed = os.path.exists(entry.path) and _is_named_image(name)
            owner = linked.get(name) or (self._folders.get(place) if listed else None)
            if owner is None:
                linked[name] = folder
        self._check_owner(owner, folder, entry.path)
        return owner is None

    def _check_owner(self, owner: Path | None, folder: Path, where: str) -> None:
        if owner not in (None, folder):
            raise DataError(
                f"{owner} and {folder} hold the same images ({where}); an image has one class and is in one part, so "
                "that none is trained on and tested on; take the link away"
            )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}); permit it, or take it away") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if entry.name in _FOLDERS_OF_SYSTEMS:
        return False
    # Not `entry.is_dir()`, which raises for a link that points to itself.
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Return whether a file has an image's name; a broken link counts, as an image that cannot be read."""
    if not _is_named_image(entry.name):
        return False
    return entry.is_file(follow_symlinks=False) or (entry.is_symlink() and not os.path.isdir(entry.path))


def _is_named_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def _holds(entry: os.DirEntry[str], real: str) -> bool:
    """Return whether an entry is a link to the folder `real` or to one that contains it."""
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path)
    return os.path.commonpath([target, real]) == target
