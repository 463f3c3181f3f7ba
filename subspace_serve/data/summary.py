"""A description of a data set for people, before anything is trained on it."""

from __future__ import annotations

import numpy as np

from subspace_serve.data.dataset import DataSet
from subspace_serve.data.file_check import FileCheck
from subspace_serve.suggestions import listed

_CLASSES_SHOWN = 20
_NAMED = 10
_PARTS = ("train", "validation", "test")


def summary(data: DataSet) -> str:
    """Return the sizes, the first 20 classes with how many images each part has of them, and notes on problems.

    For example::

        10 classes, images of 28x28 pixels, 3 channels, from files of 28x28
        class     train  validation  test
        bag         504          56   140
        ...
        together   5040         560  1400
    """
    height, width, channels = data.shape
    size = f"images of {height}x{width} pixels, {channels} channel{'s' if channels > 1 else ''}"
    lines = [f"{data.classes} classes, {size}{_files(data.files)}", *_table(data)]
    lines += [f"note: {note}" for note in _notes(data)]
    return "\n".join(lines)


def _files(files: FileCheck | None) -> str:
    """Return which sizes the image files have."""
    if files is None or not files.sizes:
        return ""
    if len(files.sizes) == 1:
        ((width, height),) = files.sizes
        return f", from files of {height}x{width}"
    sides = sorted(min(size) for size in files.sizes)
    return f", from files of {len(files.sizes)} sizes, shorter side {sides[0]} to {sides[-1]}"


def _counts(data: DataSet) -> list[list[int]]:
    """Return the images of each class in each part."""
    parts = [np.bincount(getattr(data, part).labels, minlength=data.classes).tolist() for part in _PARTS]
    return [list(counts) for counts in zip(*parts, strict=True)]


def _table(data: DataSet) -> list[str]:
    counts = _counts(data)
    rows = [["class", *_PARTS]]
    rows += [[name, *map(str, row)] for name, row in zip(data.label_names, counts, strict=True)][:_CLASSES_SHOWN]
    if data.classes > _CLASSES_SHOWN:
        rest = counts[_CLASSES_SHOWN:]
        rows.append([f"{len(rest)} more", *(str(sum(column)) for column in zip(*rest, strict=True))])
    rows.append(["together", *(str(sum(column)) for column in zip(*counts, strict=True))])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _notes(data: DataSet) -> list[str]:
    """Return what a user should know before the first step: classes that a part lacks, files left out, copies."""
    notes = []
    counts = _counts(data)
    for column, part in enumerate(_PARTS):
        lacking = [name for name, row in zip(data.label_names, counts, strict=True) if row[column] == 0]
        if lacking and len(getattr(data, part)):
            carved = data.test_carved if part == "test" else data.validation_seed is not None
            why = "too few images to be divided" if carved else "none are published"
            notes.append(f"no {part} images of {listed(lacking, _NAMED)}: {why}, so {part} figures leave them out")
    if data.left_aside:
        notes.append(f"folders beside those of the parts are not read: {listed(data.left_aside, _NAMED)}")
    if data.files is not None:
        left_out = [f"{part}/{file}" for part, files in data.files.unreadable.items() for file in files]
        if left_out:
            notes.append(f"{len(left_out)} files that cannot be read are left out: {listed(left_out, _NAMED)}")
        for part, copies in data.files.copies.items():
            if copies:
                copy, original = next(iter(copies.items()))
                notes.append(
                    f"{len(copies)} of {len(getattr(data, part))} {part} images are byte-for-byte copies of training "
                    f"images, for example {copy} of {original}: what was trained on shows in {part} figures; take the "
                    "copies away"
                )
    return notes
