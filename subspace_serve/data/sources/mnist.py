"""MNIST and Fashion-MNIST: 70,000 grey images of 28 x 28, in the IDX files of torchvision or of Debian's package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.preprocessing import Preprocessing
from subspace_serve.data.sources.idx import PREFIXES, folder_of, read_split
from subspace_serve.data.sources.source import Options, Source, data_root, missing
from subspace_serve.errors import DataError

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLOTHES = (
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


@dataclass(frozen=True)
class _Set:
    """One of the sets, which differ in name and constants alone.

    Attributes:
        name: in specifications, and of a folder in the data root that may hold it.
        published: the name of torchvision's class, and of the folder that it makes.
        label_names: of the ten classes.
        flip: whether a mirrored image is still one of its class.
        preprocessing: the published constants.
    """

    name: str
    published: str
    label_names: tuple[str, ...]
    flip: bool
    preprocessing: Preprocessing


_MNIST = _Set(
    "mnist",
    "MNIST",
    tuple(str(digit) for digit in range(10)),
    flip=False,
    preprocessing=Preprocessing(mean=(0.1307,), std=(0.3081,)),
)
_FASHION_MNIST = _Set(
    "fashion-mnist",
    "FashionMNIST",
    CLOTHES,
    flip=True,
    preprocessing=Preprocessing(mean=(0.2860,), std=(0.3530,)),
)


def read_mnist(path: Path | None, options: Options) -> Source:
    """Read MNIST from a folder or the data root."""
    return _read(_MNIST, path, options)


def read_fashion_mnist(path: Path | None, options: Options) -> Source:
    """Read Fashion-MNIST from a folder, the data root, or where Debian's package puts it."""
    return _read(
        _FASHION_MNIST, path, options, elsewhere=(DEBIAN_FOLDER,), sources="install Debian's dataset-fashion-mnist, "
    )


def _read(
    which: _Set, path: Path | None, options: Options, elsewhere: tuple[Path, ...] = (), sources: str = ""
) -> Source:
    root = path or data_root()
    raw = root / which.published / "raw"
    # The sets' files have the same names, so without a path they are taken only from folders named after the set.
    places = [raw, root / which.name, *elsewhere] if path is None else [path, path / "raw", raw]
    folder = folder_of(places)
    if folder is None and options.download:
        _download(which, root)
        folder = folder_of(places)
    if folder is None:
        raise missing(which.name, places, f"{sources}name the folder with {which.name}:PATH, or use --download")
    train, test = (read_split(folder, split) for split in PREFIXES)
    return Source(
        name=which.name,
        label_names=which.label_names,
        augmentation=Augmentation(padding=2, flip=which.flip),
        preprocessing=which.preprocessing,
        train=train,
        test=test,
    )


def _download(which: _Set, root: Path) -> None:
    from torchvision import datasets

    published = {"MNIST": datasets.MNIST, "FashionMNIST": datasets.FashionMNIST}[which.published]
    try:
        published(root, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{which.name} cannot be downloaded to {root} ({error}); check the connection") from error
