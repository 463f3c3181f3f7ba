"""Fashion-MNIST: 70,000 grey images of 28 x 28, in the IDX files of Debian's package or of torchvision."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.images import MemoryImages
from subspace_serve.data.preprocessing import Preprocessing
from subspace_serve.data.sources.source import Options, Source, data_root, first_with, missing
from subspace_serve.errors import DataError

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
LABEL_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_TORCHVISION_FOLDER = Path("FashionMNIST/raw")
_PARTS = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 8


def read_fashion_mnist(path: Path | None, options: Options) -> Source:
    """Read Fashion-MNIST from a folder, the data root, or where Debian's package puts it."""
    root = path or data_root()
    places = [root, root / "raw", root / _TORCHVISION_FOLDER]
    if path is None:
        places += [root / "fashion-mnist", DEBIAN_FOLDER]
    folder = _find(places)
    if folder is None and options.download:
        _download(root)
        folder = _find(places)
    if folder is None:
        remedy = "install Debian's dataset-fashion-mnist, name the folder with fashion-mnist:PATH, or use --download"
        raise missing("fashion-mnist", places, remedy)
    splits = {name: _read_split(folder, prefix) for name, prefix in _PARTS.items()}
    return Source(
        name="fashion-mnist",
        label_names=LABEL_NAMES,
        augmentation=Augmentation(padding=2, flip=True),
        preprocessing=Preprocessing(mean=(0.2860,), std=(0.3530,)),
        train=splits["train"],
        test=splits["test"],
    )


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Return an IDX file of bytes as a uint8 array of `rank` axes; it is gzip-compressed if its name ends in .gz.

    An IDX file is two zero bytes, the type, the number of axes, their sizes as big-endian 32-bit numbers, and
    the data.

    Raises:
        DataError: the file cannot be read, is not IDX, has another rank or not as many bytes as it says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); it may be truncated; get it again") from error
    if content[:4] != bytes((0, 0, _UNSIGNED_BYTE, rank)):
        raise DataError(
            f"{path} is not an IDX file of bytes with {rank} axes; it begins with {content[:4].hex()}; get it again"
        )
    start = 4 + 4 * rank
    shape = tuple(int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4))
    if len(content) != start + math.prod(shape):
        raise DataError(f"{path} should hold an array of {shape}; it is {len(content)} bytes long; get it again")
    return np.frombuffer(bytearray(content), np.uint8, offset=start).reshape(shape)


def _read_split(folder: Path, prefix: str) -> MemoryImages:
    images = read_idx(_file(folder, f"{prefix}-images-idx3-ubyte"), rank=3)
    labels = read_idx(_file(folder, f"{prefix}-labels-idx1-ubyte"), rank=1)
    return MemoryImages(torch.from_numpy(images).unsqueeze(-1), torch.from_numpy(labels))


def _file(folder: Path, name: str) -> Path:
    """Return the file as torchvision unpacks it, or the compressed one."""
    unpacked = folder / name
    return unpacked if unpacked.is_file() else folder / f"{name}.gz"


def _find(places: list[Path]) -> Path | None:
    name = "train-images-idx3-ubyte"
    return first_with(name, places) or first_with(f"{name}.gz", places)


def _download(root: Path) -> None:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(root, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"fashion-mnist cannot be downloaded to {root} ({error}); check the connection") from error
