"""NumPy's .npz files: `images` and `labels`, or the keys of MedMNIST."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from subspace_serve.data.images import Augmentation, MemoryImages
from subspace_serve.data.sources.source import Options, Source
from subspace_serve.errors import DataError

_PREFIXES = {"train": "train_", "validation": "val_", "test": "test_"}
_GREY = 3
_WITH_CHANNELS = 4
_MOST_CHANNELS = 4


def read_npz(path: Path | None, options: Options) -> Source:
    """Read a .npz file. Nothing in it is unpickled.

    It holds `images`, uint8 (N, height, width) or (N, height, width, channels), and `labels`, integers (N,)
    or (N, 1); or `train_images`, `train_labels` and the like for `val` and `test`. `label_names`, if there,
    names the classes.
    """
    if path is None:
        raise DataError("npz needs a file; found no path; write FILE.npz")
    arrays = _arrays(path)
    present = {split: prefix for split, prefix in _PREFIXES.items() if f"{prefix}images" in arrays}
    splits = {split: _images(path, arrays, prefix) for split, prefix in (present or {"train": ""}).items()}
    return Source(
        name=path.stem,
        label_names=_label_names(path, arrays) or options.label_names or _numbers(splits.values()),
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
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
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
    return arrays[key]


def _images(path: Path, arrays: Mapping[str, np.ndarray], prefix: str) -> MemoryImages:
    pixels = _array(path, arrays, f"{prefix}images")
    labels = _array(path, arrays, f"{prefix}labels")
    if pixels.ndim == _GREY:
        pixels = pixels[..., np.newaxis]
    if pixels.dtype != np.uint8 or pixels.ndim != _WITH_CHANNELS or not 1 <= pixels.shape[3] <= _MOST_CHANNELS:
        raise DataError(
            f"{prefix}images in {path} must be uint8 of shape (N, height, width) or (N, height, width, channels) with "
            f"up to {_MOST_CHANNELS} channels; found {pixels.dtype} of shape {pixels.shape}; convert them"
        )
    if labels.shape == (len(pixels), 1):
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu":
        raise DataError(f"{prefix}labels in {path} must be integers; found {labels.dtype}; number the classes from 0")
    return MemoryImages(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))


def _label_names(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Return the names of the classes; none where the file does not name them."""
    names = arrays.get("label_names", np.empty(0, dtype=np.str_))
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) != len(names):
        raise DataError(
            f"label_names in {path} must be one list of different strings; "
            f"found {names.dtype} of shape {names.shape}; save one name per class"
        )
    return tuple(names.tolist())


def _numbers(splits: Iterable[MemoryImages]) -> tuple[str, ...]:
    """Return the numbers of the classes as their names."""
    largest = max(int(images.labels.max()) if len(images) else -1 for images in splits)
    return tuple(str(label) for label in range(largest + 1))
