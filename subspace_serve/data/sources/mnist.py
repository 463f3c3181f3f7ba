"""MNIST and Fashion-MNIST: 70,000 grey images of 28 x 28, in IDX files as published or as Debian packages them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.preprocessing import Preprocessing
from subspace_serve.data.sources.download import download
from subspace_serve.data.sources.idx import PREFIXES, folder_of, read_split
from subspace_serve.data.sources.source import Options, Source, data_root, missing

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
    """One of the sets, which differ only in names, files and constants.

    Attributes:
        name: its name in specifications, and of a folder in the data root that may hold it.
        published: the name of the folder that holds it, which torchvision chose.
        mirrors: addresses of folders that hold its files.
        files: its files and their MD5.
        label_names: of the ten classes.
        flip: whether a mirrored image still belongs to its class.
        preprocessing: the published constants.
    """

    name: str
    published: str
    mirrors: tuple[str, ...]
    files: dict[str, str]
    label_names: tuple[str, ...]
    flip: bool
    preprocessing: Preprocessing


_MNIST = _Set(
    "mnist",
    "MNIST",
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    files={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    label_names=tuple(str(digit) for digit in range(10)),
    flip=False,
    preprocessing=Preprocessing(mean=(0.1307,), std=(0.3081,)),
)
_FASHION_MNIST = _Set(
    "fashion-mnist",
    "FashionMNIST",
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    files={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    label_names=CLOTHES,
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
    if folder in (None, raw) and options.download:
        # The first file, by which the folder is recognised, is fetched last; an interrupted download is gone on with.
        for file, md5 in reversed(which.files.items()):
            if not ((raw / file).exists() or (raw / file).with_suffix("").exists()):
                download(which.name, [mirror + file for mirror in which.mirrors], md5, raw / file)
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
