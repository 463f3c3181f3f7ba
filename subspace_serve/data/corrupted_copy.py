"""Writing a corrupted copy of a data set in CIFAR-10-C's layout."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from subspace_serve import __version__
from subspace_serve.data.images import Images
from subspace_serve.data.sources.copy_record import FILE_NAME, CopyRecord, read_record
from subspace_serve.data.sources.corrupted_layouts import LABELS
from subspace_serve.data.views import CorruptedImages
from subspace_serve.errors import DataError
from subspace_serve.files import atomic_folder, check_replaceable

_BATCH_BYTES = 1 << 21
_BYTE_CLASSES = 256


def write_corrupted_copy(
    images: Images,
    folder: Path,
    *,
    corruptions: Sequence[str],
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    preset: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    label_names: Sequence[str],
    data: str,
    split: str,
    track: Callable[[Iterable, int], Iterable] = lambda batches, length: batches,
) -> CopyRecord:
    """Corrupt images and write them: `<type>.npy`, `labels.npy` and `corruptions.json`.

    Each array is uint8 (severities x N, height, width, channels), one severity after another. The images are read
    once, a batch at a time, and the folder is whole or absent.

    Args:
        images: grey or RGB, 8 pixels or more on a side.
        folder: an earlier copy of the same part of the same data set is replaced there.
        corruptions: the types.
        severities: of each type.
        preset, seed, workers: as `subspace_serve.data.corruptions.corrupt` takes them.
        label_names, data, split: for the record: the classes, the data set's specification, which part it is.
        track: wraps the batches, to show progress.

    Raises:
        DataError: a type, severity or preset is unknown, images of that shape are not corrupted, the folder holds
            something else, or the disk has no room.
    """
    _check_target(folder, images)
    levels = sorted(set(severities))
    # Made before anything is written, so that errors are reported at once.
    corrupted = {
        name: [CorruptedImages(images, name, level, preset=preset, seed=seed, workers=workers) for level in levels]
        for name in dict.fromkeys(corruptions)
    }
    if not corrupted or not levels:
        raise DataError("a corrupted copy takes one type and one severity at least; found none; name some")
    record = CopyRecord(
        data=data,
        split=split,
        fingerprint=images.fingerprint(),
        label_names=tuple(label_names),
        count=len(images),
        shape=images.shape,
        preset=next(iter(corrupted.values()))[0].preset,
        seed=seed,
        severities=tuple(levels),
        corruptions=tuple(corrupted),
        created_by=f"subspace-serve {__version__}",
    )
    with atomic_folder(folder) as temporary:
        _check_room(temporary, record)
        _write_arrays(images, corrupted, temporary, track)
        labels = images.labels.astype(np.uint8 if len(label_names) <= _BYTE_CLASSES else np.int64)
        np.save(temporary / f"{LABELS}.npy", np.tile(labels, len(levels)))
        (temporary / FILE_NAME).write_text(record.to_text(), encoding="utf-8")
    return record


def _check_target(folder: Path, images: Images) -> None:
    """Raise `DataError` where a copy cannot be written: only an earlier one of the same images is ever replaced.

    Args:
        folder: where it is to be written.
        images: what it is to be of, as for `write_corrupted_copy`.
    """
    earlier = _record_in(folder)
    own = [] if earlier is None else [FILE_NAME, *(f"{name}.npy" for name in (LABELS, *earlier.corruptions))]
    check_replaceable(
        folder,
        lambda names: [name for name in names if name not in own],
        "{target} is no corrupted copy that could be replaced; found {found}; choose another folder, or clear this one",
        DataError,
    )
    if earlier is not None and earlier.fingerprint != images.fingerprint():
        raise DataError(
            f"{folder} holds a corrupted copy of other images, which would be lost: {earlier.count} {earlier.split} "
            f"images of {earlier.data}; choose another folder (--out), or clear this one"
        )


def _record_in(folder: Path) -> CopyRecord | None:
    """Return what an earlier copy holds; None where there is none, or one that cannot be read."""
    try:
        return read_record(folder)
    except DataError:
        return None


def _check_room(folder: Path, record: CopyRecord) -> None:
    needed = len(record.corruptions) * len(record.severities) * record.count * int(np.prod(record.shape))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"the corrupted copy needs {needed / 1e6:,.1f} MB; found {free / 1e6:,.1f} MB free in {folder.parent}; "
            "make room, or ask for fewer corruptions or severities"
        )


def _write_arrays(
    images: Images,
    corrupted: dict[str, list[CorruptedImages]],
    folder: Path,
    track: Callable[[Iterable, int], Iterable],
) -> None:
    """Write all arrays in one pass over the images, so that image files are decoded once.

    Written rather than memory-mapped: on a full disk a write raises an error, but a mapped page crashes the process.
    """
    count, image_bytes = len(images), int(np.prod(images.shape))
    batch_size = max(1, _BATCH_BYTES // image_bytes)
    with ExitStack() as stack:
        files = {name: stack.enter_context(open(folder / f"{name}.npy", "wb")) for name in corrupted}
        starts = {
            name: _write_header(file, (len(corrupted[name]) * count, *images.shape)) for name, file in files.items()
        }
        written = 0
        for pixels, _ in track(images.batches(batch_size), -(-count // batch_size)):
            for name, by_severity in corrupted.items():
                for place, view in enumerate(by_severity):
                    files[name].seek(starts[name] + (place * count + written) * image_bytes)
                    files[name].write(np.ascontiguousarray(view.change(pixels)).data)
            written += len(pixels)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> int:
    """Write a .npy header for bytes and return where the numbers begin."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.tell()
