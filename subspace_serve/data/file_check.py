"""Checking every image file of a data set once, before anything is computed from it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from subspace_serve.cores import available_cores
from subspace_serve.data.decoding import decoded_size
from subspace_serve.data.folder import FolderImages
from subspace_serve.data.sources import Source
from subspace_serve.errors import DataError

Track = Callable[[Iterable, int, str], Iterable]
"""Wraps the work to show its progress: (pieces, how many, label)."""


def untracked(pieces: Iterable, count: int, label: str) -> Iterable:
    """Show no progress."""
    return pieces


_NAMED = 10
_AT_ONCE = 64


@dataclass(frozen=True)
class FileCheck:
    """What the image files of a data set are like.

    Attributes:
        sizes: how many readable files there are, by width and height.
        unreadable: by part, and by the file's path in that part's folder, why it cannot be read.
        copies: by part, the validation and test files that equal a training file byte for byte, with that file.
    """

    sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    unreadable: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    copies: Mapping[str, Mapping[Path, Path]] = field(default_factory=dict)

    @property
    def left_out(self) -> dict[str, list[str]]:
        """The files that cannot be read, by part, as a run records them."""
        return {part: list(files) for part, files in self.unreadable.items()}


def check_files(source: Source, track: Track = untracked) -> FileCheck:
    """Decode every image file of a data set; images in arrays are not checked."""
    sizes: Counter[tuple[int, int]] = Counter()
    unreadable: dict[str, dict[str, str]] = {}
    # Threads suffice, since Pillow releases the GIL while it decodes.
    with ThreadPoolExecutor(available_cores()) as pool:
        for part, images in source.splits.items():
            if not isinstance(images, FolderImages):
                continue
            pieces = np.array_split(np.arange(len(images)), -(-len(images) // _AT_ONCE))
            for piece in track(pieces, len(pieces), f"checking {part} files"):
                paths = [images.path_of(index) for index in piece]
                for path, found in zip(paths, pool.map(decoded_size, paths), strict=True):
                    if isinstance(found, str):
                        unreadable.setdefault(part, {})[str(path.relative_to(images.root))] = found
                    else:
                        sizes[found] += 1
    return FileCheck(dict(sizes), unreadable)


def refuse_unreadable(check: FileCheck, source: Source) -> None:
    """Raise `DataError` when files cannot be read; it names the first ten and says how many there are."""
    found = [
        f"{source.splits[part].root / file} ({reason})"  # type: ignore[attr-defined]
        for part, files in check.unreadable.items()
        for file, reason in files.items()
    ]
    if not found:
        return
    total = sum(map(len, source.splits.values()))
    more = f"\n  and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    raise DataError(
        f"{len(found)} of {total} image files of {source.name} cannot be read:\n  "
        + "\n  ".join(found[:_NAMED])
        + f"{more}\nreplace them, take them away, or leave them out with --skip-unreadable"
    )


def leave_out(source: Source, files: Mapping[str, Sequence[str]]) -> Source:
    """Return a data set without some of its image files, named by part; names that are not there are ignored."""
    kept = {}
    for part, names in files.items():
        images = source.splits.get(part)
        if isinstance(images, FolderImages):
            unwanted = np.isin(images.files, [os.fsencode(name) for name in names])
            kept[part] = images.subset(np.flatnonzero(~unwanted))
    return replace(source, **kept)  # type: ignore[arg-type]
