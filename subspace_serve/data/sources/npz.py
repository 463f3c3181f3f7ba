"""NumPy's .npz files: `images` and `labels`, or the keys of MedMNIST."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from subspace_serve.data.array import MemoryImages
from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.sources.arrays import DAMAGED, checked_pixels, integer_labels
from subspace_serve.data.sources.numbers import check_class_count, numbered
from subspace_serve.data.sources.source import Options, Source
from subspace_serve.errors import DataError

_LONGEST_NAME = 1000
_CHARACTER = np.dtype("U1").itemsize
_PREFIXES = {"train": "train_", "validation": "val_", "test": "test_"}


def read_npz(path: Path | None, options: Options) -> Source:
    """Read a .npz file. Nothing in it is unpickled.

    It holds `images`, uint8 (N, height, width) or (N, height, width, channels), and `labels`, integers (N,)
    or (N, 1); or `train_images`, `train_labels` and so on for `val` and `test`, as in MedMNIST. `label_names`, if
    there, names the classes; labels may be absent where they are not needed.

    Raises:
        DataError: the file is missing, damaged or holds Python objects, or its arrays do not fit each other.
    """
    if path is None:
        raise DataError("npz needs a file; found no path; write FILE.npz")
    arrays = _arrays(path)
    present = {split: prefix for split, prefix in _PREFIXES.items() if f"{prefix}images" in arrays}
    splits = {
        split: _images(path, arrays, prefix, options.labelled) for split, prefix in (present or {"train": ""}).items()
    }
    label_names = _label_names(path, arrays, splits)
    if not label_names:
        label_names, splits = numbered(splits, options, path)
    return Source(
        name=path.stem,
        label_names=label_names,
        augmentation=Augmentation(padding=next(iter(splits.values())).shape[0] // 8),
        train=splits.get("train"),
        validation=splits.get("validation"),
        test=splits.get("test"),
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        # NumPy would also read a single array, or try to unpickle; a .npz file is a zip archive.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; give the path of a .npz file") from error
    except MemoryError as error:
        raise DataError(
            f"{path} does not fit into memory: {error}; if it is as large as it should be, save its images as files, "
            "one folder per class, which are read as they are needed; otherwise it is damaged: get it again"
        ) from error
    except DAMAGED as error:
        raise DataError(
            f"{path} cannot be read as .npz: {error}; it is damaged or holds objects; "
            "save plain arrays again with numpy.savez"
        ) from error


def _array(path: Path, arrays: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    if key not in arrays:
        raise DataError(
            f"{path} has no {key}; found {', '.join(arrays) or 'nothing'}; "
            "save `images` and `labels`, or `train_images`, `train_labels` and so on"
        )
    if not isinstance(arrays[key], np.ndarray):  # NumPy returns the bytes of whatever else is in the archive
        raise DataError(f"{key} in {path} is no array; found other bytes; save plain arrays again with numpy.savez")
    return arrays[key]


def _images(path: Path, arrays: Mapping[str, np.ndarray], prefix: str, labelled: bool) -> MemoryImages:
    pixels = checked_pixels(_array(path, arrays, f"{prefix}images"), f"{prefix}images in {path}")
    if not labelled and f"{prefix}labels" not in arrays:
        return MemoryImages(pixels, np.zeros(len(pixels), np.int64))
    labels = _array(path, arrays, f"{prefix}labels")
    return MemoryImages(pixels, integer_labels(labels, len(pixels), f"{prefix}labels in {path}"))


def _label_names(path: Path, arrays: Mapping[str, np.ndarray], splits: Mapping[str, MemoryImages]) -> tuple[str, ...]:
    """Return the names of the classes; empty where the file does not name them."""
    if "label_names" not in arrays:
        return ()
    names = _array(path, arrays, "label_names")
    wrong = names.ndim != 1 or names.dtype.kind != "U"
    if not wrong:
        check_class_count(len(names), splits, f"{path} has {len(names)} label_names")
        if names.dtype.itemsize > _LONGEST_NAME * _CHARACTER:
            raise DataError(
                f"label_names in {path} must have {_LONGEST_NAME} characters each at most; "
                f"found {names.dtype.itemsize // _CHARACTER}; shorten them"
            )
    if wrong or len(set(names.tolist())) != len(names):
        raise DataError(
            f"label_names in {path} must be one list of different strings; "
            f"found {names.dtype} of shape {names.shape}; save one name per class"
        )
    return tuple(names.tolist())
