"""Data sets by name and by file: digits, MNIST, Fashion-MNIST, CIFAR, .npz."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import pickle
import tarfile
import tracemalloc
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest

from subspace_serve.data import Augmentation, load_data, load_images, load_unlabelled
from subspace_serve.data.sources import cifar, mnist
from subspace_serve.data.sources.plain_pickle import read_plain_pickle
from subspace_serve.errors import DataError

DIGITS = [str(digit) for digit in range(10)]


def same_images(first, second) -> bool:
    everything = np.arange(len(first))
    return len(first) == len(second) and all(map(np.array_equal, first.take(everything), second.take(everything)))


# digits


def test_digits_are_scaled_to_bytes_and_divided_by_class():
    data = load_data("digits")
    assert (data.name, data.shape, data.label_names) == ("digits", (8, 8, 1), tuple(DIGITS))
    assert [len(data.train), len(data.validation), len(data.test)] == [1293, 144, 360]
    assert data.augmentation == Augmentation(padding=1, flip=False)
    pixels, _ = data.train.take(np.arange(1293))
    # 0 to 16, each times 255/16 and rounded.
    assert set(np.unique(pixels).tolist()) == {round(value * 255 / 16) for value in range(17)}
    assert np.bincount(data.test.labels).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    assert int(np.bincount(data.validation.labels).min()) == 14


def test_the_test_digits_are_the_same_whatever_the_seed():
    first, second = load_data("digits", seed=0), load_data("digits", seed=1)
    assert same_images(first.test, second.test)
    assert not same_images(first.validation, second.validation)
    assert same_images(first.validation, load_data("digits", seed=0).validation)
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint == "cae1d2d5c1c30c2452c106a23dfcc45950a5ec4085c7378c31e401b2e48d230c"


def test_digits_normalise_to_mean_zero_by_constants_of_the_training_images():
    data = load_data("digits")
    pixels = data.train.take(np.arange(len(data.train)))[0] / 255
    assert data.preprocessing.mean == pytest.approx((pixels.mean().item(),))
    assert data.preprocessing.std == pytest.approx((pixels.std().item(),))


def test_digits_can_be_enlarged():
    data = load_data("digits", image_size=16)
    assert {part.shape for part in (data.train, data.validation, data.test)} == {(16, 16, 1)}
    assert data.fingerprint == load_data("digits").fingerprint


def test_what_a_checkpoint_records():
    assert load_data("digits", validation=0.2, seed=5).to_json() == {
        "name": "digits",
        "spec": "digits",
        "fingerprint": "cae1d2d5c1c30c2452c106a23dfcc45950a5ec4085c7378c31e401b2e48d230c",
        "counts": {"train": 1150, "validation": 287, "test": 360},
        "validation_seed": 5,
        "test_carved": False,
    }


# MNIST and Fashion-MNIST


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    """Twenty training and ten test images of 28 x 28, compressed as in Debian's package of Fashion-MNIST."""
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = np.arange(count, dtype=np.uint8).repeat(28 * 28).reshape(count, 28, 28)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


def test_fashion_mnist_from_compressed_files(compressed):
    data = load_data(f"fashion-mnist:{compressed}")
    assert (data.shape, data.label_names[9]) == ((28, 28, 1), "Ankle boot")
    assert [len(data.train), len(data.validation), len(data.test)] == [10, 10, 10]
    assert (data.preprocessing.mean, data.preprocessing.std) == ((0.2860,), (0.3530,))
    pixels, labels = data.test.take(np.arange(10))
    assert pixels[:, 3, 3, 0].tolist() == list(range(10))
    assert labels.tolist() == list(range(10))


def test_mnist_differs_from_fashion_mnist_in_names_constants_and_flips(compressed):
    data = load_data(f"mnist:{compressed}")
    assert (data.name, data.shape, data.label_names) == ("mnist", (28, 28, 1), tuple(DIGITS))
    assert [len(data.train), len(data.validation), len(data.test)] == [10, 10, 10]
    assert (data.preprocessing.mean, data.preprocessing.std) == ((0.1307,), (0.3081,))
    assert data.augmentation == Augmentation(padding=2, flip=False)
    clothes = load_data(f"fashion-mnist:{compressed}")
    assert clothes.augmentation == Augmentation(padding=2, flip=True)
    assert same_images(data.test, clothes.test)


def unpack(compressed: Path, folder: Path) -> None:
    """Lay the files out as torchvision does."""
    folder.mkdir(parents=True)
    for file in compressed.glob("*.gz"):
        (folder / file.stem).write_bytes(gzip.decompress(file.read_bytes()))


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_from_torchvisions_unpacked_files(compressed, tmp_path, monkeypatch, name, folder):
    unpack(compressed, tmp_path / "root" / folder / "raw")
    monkeypatch.setenv("SUBSPACE_SERVE_DATA", str(tmp_path / "root"))
    expected = load_data(f"{name}:{compressed}")
    for spec in (name, f"{name}:{tmp_path}/root", f"{name}:{tmp_path}/root/{folder}"):
        found = load_data(spec)
        assert found.fingerprint == expected.fingerprint
        assert same_images(found.test, expected.test)


def test_neither_mnist_is_taken_for_the_other(compressed, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setenv("SUBSPACE_SERVE_DATA", str(compressed))
    unpack(compressed, compressed / "FashionMNIST" / "raw")
    with pytest.raises(DataError, match=r"mnist is not there; looked in .*/MNIST/raw, .*/mnist; name the folder"):
        load_data("mnist")
    (compressed / "FashionMNIST").rename(compressed / "MNIST")
    with pytest.raises(DataError, match="fashion-mnist is not there"):
        load_data("fashion-mnist")


class Internet:
    """Answers requests from a dictionary of files by address, and notes what was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []
        monkeypatch.setattr("urllib.request.urlopen", self._answer)

    def _answer(self, address: str, timeout: float) -> io.BytesIO:
        self.asked.append(address)
        if address not in self.files:
            raise urllib.error.URLError("no network")
        return io.BytesIO(self.files[address])


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path, which: str) -> dict[str, bytes]:
    """Declare the compressed files the published ones, and return them by their last mirror's address."""
    published = getattr(mnist, which)
    contents = {file: (folder / file).read_bytes() for file in published.files}
    checksums = {file: hashlib.md5(content).hexdigest() for file, content in contents.items()}
    monkeypatch.setattr(mnist, which, dataclasses.replace(published, files=checksums))
    return {published.mirrors[-1] + file: content for file, content in contents.items()}


@pytest.mark.parametrize(("name", "published"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_is_downloaded_only_when_asked(compressed, tmp_path, monkeypatch, name, published):
    monkeypatch.setattr(mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    root = tmp_path / "root"
    which = {"mnist": "_MNIST", "fashion-mnist": "_FASHION_MNIST"}[name]
    internet = Internet(monkeypatch, publish(monkeypatch, compressed, which))
    with pytest.raises(DataError, match=f"{name} is not there.*--download"):
        load_data(f"{name}:{root}")
    assert internet.asked == []
    expected = load_data(f"{name}:{compressed}")
    assert same_images(load_data(f"{name}:{root}", download=True).test, expected.test)
    assert sorted(file.name for file in (root / published / "raw").iterdir()) == sorted(getattr(mnist, which).files)
    # Every mirror before the last one was tried, and nothing is fetched twice.
    assert len(internet.asked) == 4 * len(getattr(mnist, which).mirrors)
    assert len(load_data(f"{name}:{root}", download=True).test) == 10
    assert len(internet.asked) == 4 * len(getattr(mnist, which).mirrors)


def test_an_mnist_that_cannot_be_downloaded_is_reported(tmp_path, monkeypatch):
    Internet(monkeypatch, {})
    with pytest.raises(DataError, match=r"mnist cannot be downloaded to .*t10k-labels.*check the connection"):
        load_data(f"mnist:{tmp_path}", download=True)


def test_an_interrupted_mnist_download_is_completed_by_the_next(compressed, tmp_path, monkeypatch):
    files = publish(monkeypatch, compressed, "_MNIST")
    internet = Internet(monkeypatch, files)
    for number, lost in enumerate(files):  # wherever it was interrupted
        internet.files = {address: content for address, content in files.items() if address != lost}
        with pytest.raises(DataError, match="mnist cannot be downloaded"):
            load_data(f"mnist:{tmp_path}/{number}", download=True)
        internet.files = files
        assert len(load_data(f"mnist:{tmp_path}/{number}", download=True).test) == 10


def test_what_an_earlier_download_left_is_completed(compressed, tmp_path, monkeypatch):
    """Earlier versions fetched first the file by which the folder is recognised."""
    files = publish(monkeypatch, compressed, "_MNIST")
    internet = Internet(monkeypatch, files)
    load_data(f"mnist:{tmp_path}", download=True)
    raw = tmp_path / "MNIST" / "raw"
    for file in raw.glob("t10k-*"):
        file.unlink()
    internet.files = {address: content for address, content in files.items() if "t10k" in address}
    assert len(load_data(f"mnist:{tmp_path}", download=True).test) == 10


def test_a_download_with_another_checksum_is_not_kept(compressed, tmp_path, monkeypatch):
    files = publish(monkeypatch, compressed, "_MNIST")
    Internet(monkeypatch, {address: content + b"more" for address, content in files.items()})
    with pytest.raises(DataError, match=r"mnist cannot be downloaded to .* its checksum should be [0-9a-f]{32} and is"):
        load_data(f"mnist:{tmp_path}/root", download=True)
    assert list((tmp_path / "root" / "MNIST" / "raw").iterdir()) == []


def test_a_missing_fashion_mnist_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACE_SERVE_DATA", str(tmp_path))
    monkeypatch.setattr(mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    with pytest.raises(DataError, match=r"not there; looked in .*FashionMNIST/raw.*debian.*dataset-fashion-mnist"):
        load_data("fashion-mnist")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-9], "cannot be read"),
        (lambda content: b"no gzip", "cannot be read"),
        (
            lambda content: gzip.compress(gzip.decompress(content)[:-1]),
            r"array of \(20, 28, 28\); it is 15695 bytes long",
        ),
        (lambda content: gzip.compress(b"\0\0\x0d\3" + gzip.decompress(content)[4:]), "begins with 00000d03"),
        (lambda content: gzip.compress(b"\0\0\x08\3\0\0"), "it is 6 bytes long"),
    ],
)
def test_damaged_idx_files_are_refused_by_name(compressed, spoil, message):
    path = compressed / "train-images-idx3-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        load_data(f"fashion-mnist:{compressed}")
    assert str(path) in str(caught.value)


@pytest.mark.skipif(not mnist.DEBIAN_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACE_SERVE_DATA", str(tmp_path))
    data = load_data("fashion-mnist")
    assert [len(data.train), len(data.validation), len(data.test)] == [54_000, 6_000, 10_000]
    assert np.bincount(data.validation.labels).tolist() == [600] * 10
    assert data.fingerprint == "53ff4a72ae1099204257090803ab78e13a589b67ed95a47cbe89a744519980c4"
    scaled = data.train.take(np.arange(54_000))[0].astype(np.float32) / 255
    assert scaled.mean().item() == pytest.approx(0.2860, abs=5e-4)
    assert scaled.std().item() == pytest.approx(0.3530, abs=5e-4)


# CIFAR


def write_cifar(folder: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write tiny files in CIFAR's layout and declare their checksums the published ones."""
    published = getattr(cifar, which)
    names = 100 if which == "CIFAR100" else 10
    folder.mkdir(parents=True)

    def write(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content, protocol=4))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(name: str) -> str:
        labels = np.arange(2 * names) % names
        # Channel planes one after another: red is the label, green 1, blue 2.
        planes = np.stack([labels, np.full_like(labels, 1), np.full_like(labels, 2)], axis=1).astype(np.uint8)
        return write(name, {"data": planes.repeat(1024, axis=1), published.labels: labels.tolist()})

    (meta,) = published.meta
    written = dataclasses.replace(
        published,
        train={name: batch(name) for name in published.train},
        test={name: batch(name) for name in published.test},
        meta={meta: write(meta, {published.label_names: [f"class {label}" for label in range(names)]})},
    )
    monkeypatch.setattr(cifar, which, written)


@pytest.mark.parametrize(("folder", "named"), [("cifar-10-batches-py", "."), ("renamed", "renamed")])
def test_cifar10_is_read_from_its_folder_or_the_one_above(tmp_path, monkeypatch, folder, named):
    write_cifar(tmp_path / folder, "CIFAR10", monkeypatch)
    data = load_data(f"cifar10:{tmp_path / named}")
    assert (data.name, data.shape, data.classes, data.label_names[3]) == ("cifar10", (32, 32, 3), 10, "class 3")
    assert [len(data.train), len(data.validation), len(data.test)] == [90, 10, 20]
    assert data.preprocessing.mean == (0.4914, 0.4822, 0.4465)
    assert data.augmentation == Augmentation(padding=4, flip=True)
    pixels, labels = data.test.take(np.arange(20))
    assert pixels[:, 5, 7].tolist() == [[label, 1, 2] for label in labels.tolist()]


def test_cifar100_has_its_fine_labels(tmp_path, monkeypatch):
    write_cifar(tmp_path / "cifar-100-python", "CIFAR100", monkeypatch)
    monkeypatch.setenv("SUBSPACE_SERVE_DATA", str(tmp_path))
    data = load_data("cifar100")
    assert (data.classes, len(data.test), data.label_names[99]) == (100, 200, "class 99")
    assert data.preprocessing.std == (0.2673, 0.2564, 0.2762)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a file with another checksum was unpickled",))


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_cifar_files_with_another_checksum_stay_unread(tmp_path, monkeypatch, name):
    write_cifar(tmp_path / "cifar-10-batches-py", "CIFAR10", monkeypatch)
    (tmp_path / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"not the published ones.*stay unread"):
        load_data(f"cifar10:{tmp_path}")


def test_a_pickle_of_arrays_and_plain_values_is_read(tmp_path):
    (tmp_path / "plain").write_bytes(PYTHON_2)
    content = read_plain_pickle(tmp_path / "plain")
    assert content.keys() == {"data", "labels", "batch_label"}
    assert (content["labels"], content["batch_label"]) == ([3, 1], "testing batch 1 of 1")
    assert content["data"].dtype == np.uint8
    assert content["data"].tolist() == [[0, 127, 128, 255], [1, 2, 3, 4]]


# What `{"data": numpy.array(..., numpy.uint8), "labels": [3, 1], "batch_label": "..."}` is in Python 2's protocol 2.
PYTHON_2 = (
    b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01K\x02K\x04\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89U\x08\x00\x7f\x80\xff\x01\x02\x03\x04tbU\x06labels](K\x03K\x01eU\x0bbatch_labelU\x14testing batch 1 of 1u."
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Bomb()), "it names _pytest.outcomes"),
        (pickle.dumps({"data": [Bomb()]}), "it names _pytest.outcomes"),
        (pickle.dumps(Path("here")), "it names pathlib"),
        (b"cos\nsystem\n(S'true'\ntR.", "it names os.system"),
        (pickle.dumps([1, 2, 3])[:-2], "stays unread"),
        (b"", "stays unread"),
    ],
)
def test_a_pickle_of_anything_else_stays_unread(tmp_path, content, message):
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_plain_pickle(tmp_path / "foreign")
    assert str(tmp_path / "foreign") in str(caught.value)


def test_a_missing_cifar_says_where_it_looked_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACE_SERVE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"cifar10 is not there; looked in .*cifar-10-batches-py.*--download"):
        load_data("cifar10")


def test_nothing_is_downloaded_unless_asked(tmp_path, monkeypatch):
    internet = Internet(monkeypatch, {})
    with pytest.raises(DataError, match="is not there"):
        load_data(f"cifar10:{tmp_path}")
    assert internet.asked == []
    with pytest.raises(DataError, match=r"cannot be downloaded .*no network"):
        load_data(f"cifar10:{tmp_path}", download=True)
    assert internet.asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"]


def test_cifar_is_taken_out_of_its_archive(tmp_path, monkeypatch):
    write_cifar(tmp_path / "cifar-10-batches-py", "CIFAR10", monkeypatch)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
        archive.add(tmp_path / "cifar-10-batches-py" / "test_batch", "../outside")
    md5 = hashlib.md5(buffer.getvalue()).hexdigest()
    monkeypatch.setattr(cifar, "CIFAR10", dataclasses.replace(cifar.CIFAR10, archive_md5=md5))
    internet = Internet(monkeypatch, {cifar.CIFAR10.address: buffer.getvalue()})
    data = load_data(f"cifar10:{tmp_path}/root", download=True)
    assert same_images(data.test, load_data(f"cifar10:{tmp_path}").test)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["cifar-10-batches-py"]
    assert not (tmp_path / "outside").exists()
    assert load_data(f"cifar10:{tmp_path}/root", download=True).fingerprint == data.fingerprint
    assert internet.asked == [cifar.CIFAR10.address]


# .npz


def arrays(count: int = 30, classes: int = 3, shape: tuple[int, ...] = (6, 5)) -> dict[str, np.ndarray]:
    labels = np.arange(count) % classes
    pixels = labels.astype(np.uint8).reshape(-1, *(1,) * len(shape)) * np.ones(shape, np.uint8)
    return {"images": pixels, "labels": labels}


def save(path: Path, **content: np.ndarray) -> str:
    np.savez(path, **content)
    return str(path)


def test_npz_with_one_split_is_carved(tmp_path):
    data = load_data(save(tmp_path / "shapes.npz", **arrays()), validation=0.25)
    assert (data.name, data.shape, data.label_names) == ("shapes", (6, 5, 1), ("0", "1", "2"))
    assert [len(data.train), len(data.validation), len(data.test)] == [18, 6, 6]
    assert (data.validation_seed, data.test_carved) == (0, True)
    pixels, labels = data.test.take(np.arange(6))
    assert pixels[:, 0, 0, 0].tolist() == labels.tolist()


def test_npz_with_medmnist_keys_keeps_its_splits(tmp_path):
    content = {}
    for prefix, count in (("train", 12), ("val", 6), ("test", 9)):
        part = arrays(count, shape=(6, 6, 3))
        content |= {f"{prefix}_images": part["images"], f"{prefix}_labels": part["labels"][:, None]}
    spec = save(tmp_path / "med.npz", **content)
    data = load_data(spec)
    assert [len(data.train), len(data.validation), len(data.test)] == [12, 6, 9]
    assert (data.validation_seed, data.validation_count, data.test_carved) == (None, 6, False)
    assert data.train.labels.shape == (12,)
    images = load_images(f"{spec}:val", height=6, width=6, channels=3, label_names=["a", "b", "c"])
    assert same_images(images, data.validation)
    with pytest.raises(DataError, match="has the splits train, validation, test; say which one"):
        load_images(spec, height=6, width=6, channels=3, label_names=["a", "b", "c"])


def test_npz_names_its_classes(tmp_path):
    spec = save(tmp_path / "named.npz", **arrays(), label_names=np.array(["cat", "dog", "eel"]))
    assert load_data(spec).label_names == ("cat", "dog", "eel")
    images = load_images(spec, height=6, width=5, channels=1, label_names=["dog", "fox", "cat", "eel"])
    pixels, labels = images.take(np.arange(30))
    # Each image shows its label in the file: cat, dog, eel.
    assert labels.tolist() == np.array([2, 0, 3])[pixels[:, 0, 0, 0]].tolist()
    with pytest.raises(DataError, match="other classes than the network: cat, dog, eel instead of dog, cat, ewe"):
        load_images(spec, height=6, width=5, channels=1, label_names=["dog", "cat", "ewe"])


def test_the_npz_fingerprint_is_that_of_the_data(tmp_path):
    first = load_data(save(tmp_path / "a.npz", **arrays()))
    compressed = tmp_path / "b.npz"
    np.savez_compressed(compressed, **arrays())
    assert load_data(str(compressed), seed=4, validation=0.3).fingerprint == first.fingerprint
    changed = arrays()
    changed["images"][0, 0, 0] += 1
    assert load_data(save(tmp_path / "c.npz", **changed)).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "has no labels; found images"),
        ({"images": None}, "has no images; found labels"),
        ({"images": np.zeros((30, 6, 5))}, r"must be uint8 .*found float64 of shape \(30, 6, 5, 1\)"),
        ({"images": np.zeros((30, 30), np.uint8)}, r"found uint8 of shape \(30, 30\)"),
        ({"images": np.zeros((30, 3, 6, 5), np.uint8)}, r"up to 4 channels; found uint8 of shape \(30, 3, 6, 5\)"),
        ({"images": np.zeros((30, 0, 0, 3), np.uint8)}, r"a pixel at least .*found uint8 of shape \(30, 0, 0, 3\)"),
        ({"images": np.zeros((30, 0, 5), np.uint8)}, r"a pixel at least .*found uint8 of shape \(30, 0, 5, 1\)"),
        ({"images": np.zeros((29, 6, 5), np.uint8)}, r"one integer per image, shape \(29,\)"),
        ({"images": np.array([np.zeros((6, 5)), np.zeros((5, 5))] * 15, dtype=object)}, "holds objects"),
        ({"images": np.zeros((0, 6, 5), np.uint8), "labels": np.zeros(0, int)}, "is empty; found no train images"),
        ({"labels": np.zeros(30)}, "must be integers; found float64"),
        ({"labels": np.eye(30, 3, dtype=int)}, r"found shape \(30, 3\)"),
        ({"labels": np.arange(30) % 3 - 1}, "labels count from 0; found -1"),
        ({"labels": np.arange(30) % 2 * 2}, "classes without a training image: 1"),
        ({"label_names": np.array(["cat", "dog"])}, "has 2 classes, numbered from 0; found the train label 2"),
        ({"label_names": np.array(["cat", "dog", "dog"])}, "one list of different strings"),
        ({"label_names": np.array(["cat", "dog", "eel", "fox"])}, "without a training image: fox"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, change, message):
    content = {key: array for key, array in (arrays() | change).items() if array is not None}
    with pytest.raises(DataError, match=message):
        load_data(save(tmp_path / "wrong.npz", **content))


def test_npz_splits_of_different_sizes_are_refused(tmp_path):
    train, test = arrays(shape=(6, 6)), arrays(shape=(8, 8))
    spec = save(
        tmp_path / "sizes.npz",
        train_images=train["images"],
        train_labels=train["labels"],
        test_images=test["images"],
        test_labels=test["labels"],
    )
    with pytest.raises(DataError, match="different image sizes"):
        load_data(spec)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    whole = Path(save(tmp_path / "whole.npz", **arrays()))
    truncated = tmp_path / "truncated.npz"
    truncated.write_bytes(whole.read_bytes()[:-100])
    flipped = tmp_path / "flipped.npz"
    content = bytearray(whole.read_bytes())
    content[300] ^= 0xFF
    flipped.write_bytes(content)
    pickled = tmp_path / "pickled.npz"
    pickled.write_bytes(pickle.dumps(Bomb()))
    for path in (truncated, flipped, pickled):
        with pytest.raises(DataError, match=f"{path.name} cannot be read as .npz"):
            load_data(str(path))
    with pytest.raises(DataError, match="there is no file"):
        load_data(str(tmp_path / "absent.npz"))


@pytest.mark.parametrize("key", ["images", "labels", "label_names"])
def test_other_files_in_the_place_of_an_array_are_refused(tmp_path, key):
    spec = save(tmp_path / "raw.npz", **{name: array for name, array in arrays().items() if name != key})
    with zipfile.ZipFile(spec, "a") as archive:
        archive.writestr("readme.txt", "what is no array is not looked at")
        archive.writestr(key, "a,b,c")
    with pytest.raises(DataError, match=rf"{key} in .*raw.npz is no array; found other bytes"):
        load_data(spec)


@pytest.mark.parametrize("spoil", [(b")", b" "), (b"}", b" "), (b"'descr'", b"b'escr'"), (b"{", b"\n"), (b"'", b"{")])
def test_an_archive_with_a_spoilt_header_is_refused(tmp_path, spoil):
    np.save(tmp_path / "images.npy", arrays()["images"])
    spec = save(tmp_path / "spoilt.npz", labels=arrays()["labels"])
    with zipfile.ZipFile(spec, "a") as archive:
        archive.writestr("images.npy", (tmp_path / "images.npy").read_bytes().replace(*spoil))
    with pytest.raises(DataError, match=r"spoilt.npz cannot be read as .npz"):
        load_data(spec)


def test_an_archive_that_does_not_fit_into_memory_may_be_whole(tmp_path):
    spec = save(tmp_path / "large.npz", labels=arrays()["labels"])
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**15, 1, 1)}
    with zipfile.ZipFile(spec, "a") as archive, archive.open("images.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(
        DataError, match=r"large.npz does not fit into memory: Unable to allocate .*one folder per class"
    ):
        load_data(spec)


def test_training_needs_training_images(tmp_path):
    part = arrays()
    spec = save(tmp_path / "only.npz", test_images=part["images"], test_labels=part["labels"])
    with pytest.raises(DataError, match="no training images; found only test"):
        load_data(spec)
    assert len(load_images(spec, height=6, width=5, channels=1, label_names=["a", "b", "c"])) == 30


FOLDERS = sorted(map(str, range(11)))
"""The order of the classes of folders 0 to 10: 0, 1, 10, 2."""


def test_numbers_for_labels_are_the_names_of_classes_that_are_numbers(tmp_path):
    labels = np.array([10, 2, 0, 9, 1, 10])
    spec = save(tmp_path / "numbers.npz", images=np.zeros((6, 4, 4), np.uint8), labels=labels)
    images = load_images(spec, height=4, width=4, channels=1, label_names=FOLDERS)
    assert images.labels.tolist() == [2, 3, 0, 10, 1, 2]
    assert [FOLDERS[label] for label in images.labels] == list(map(str, labels))
    padded = load_images(spec, height=4, width=4, channels=1, label_names=[f"{number:02}" for number in range(11)])
    assert padded.labels.tolist() == labels.tolist()
    with pytest.raises(DataError, match="has the labels 0, which are none of the network's classes 1, 10, 2, 9; label"):
        load_images(spec, height=4, width=4, channels=1, label_names=["1", "10", "2", "9"])


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["a1", "a10", "a2"], [0, 1, 2]),
        (["class 1", "class 2", "class 3"], [1, 2]),
        (["1", "2", "background"], [0, 1, 2]),
        (["background", "3", "4"], [0, 1]),
        (["01", "1"], [0, 1]),
        (["1", "2"], [0, 1]),
    ],
)
def test_numbers_that_could_mean_two_classes_are_refused(tmp_path, names, labels):
    spec = save(tmp_path / "n.npz", images=np.zeros((len(labels), 4, 4), np.uint8), labels=np.array(labels))
    with pytest.raises(DataError, match=f"classes .*{names[0]}, {names[1]}.* a list of texts `label_names`"):
        load_images(spec, height=4, width=4, channels=1, label_names=names)
    # As the message says.
    order = sorted(names, key=len)
    named = save(tmp_path / "named.npz", **np.load(spec), label_names=np.array(order))
    images = load_images(named, height=4, width=4, channels=1, label_names=names)
    assert [names[label] for label in images.labels] == [order[label] for label in labels]


@pytest.mark.parametrize(
    "names",
    [
        ["dog", "cat", "eel"],
        ["n01440764", "n01443537", "n01484850"],
        ["class 1", "class 2", "class 3"],
        ["0", "1", "other"],
        ["class_0", "class_1", "class_2"],
    ],
)
def test_other_numbers_for_labels_count_the_classes(tmp_path, names):
    spec = save(tmp_path / "n.npz", images=np.zeros((3, 4, 4), np.uint8), labels=np.array([2, 0, 1]))
    assert load_images(spec, height=4, width=4, channels=1, label_names=names).labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": [0, 1, 10**8]},
            "labels up to 100000000, which are 100000001 classes for 3 images; number",
        ),
        ({"labels": np.array([0, 1, 2**64 - 1], np.uint64)}, "labels in .* go up to 18446744073709551615; number the"),
        ({"labels": [0, 1, 2**62]}, "labels up to 4611686018427387904, which are 4611686018427387905 classes"),
        ({"labels": [0, -(10**8), 1]}, "labels count from 0; found -100000000"),
        ({"label_names": np.arange(10**6).astype("U7")}, "has 1000000 label_names, which are .* for 3 images"),
        ({"label_names": np.array(["a" * 1001, "b", "c"])}, "1000 characters each at most; found 1001; shorten"),
        ({"label_names": np.array(["a", "b", "\udc80"])}, r"names are no text in UTF-8: '\\udc80'; rename them"),
        ({"label_names": np.array([["a", "b", "c"]])}, r"one list of different strings; found <U1 of shape \(1, 3\)"),
    ],
)
def test_labels_and_names_that_cannot_be_those_of_classes_are_refused_before_names_are_made(tmp_path, change, message):
    content = {"images": np.zeros((3, 4, 4), np.uint8), "labels": np.arange(3)} | change
    spec = save(tmp_path / "wrong.npz", **{key: np.asarray(value) for key, value in content.items()})
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message):
            load_data(spec)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The million names fill 28 MB as they lie in their array; the names of 10^8 classes would fill 5 GB.
    assert peak < 100e6


def test_a_huge_label_is_refused_by_the_networks_classes_and_does_not_matter_to_calibration(tmp_path):
    labels = np.array([0, 1, 10**8])
    spec = save(tmp_path / "huge.npz", images=np.zeros((3, 4, 4), np.uint8), labels=labels)
    with pytest.raises(DataError, match="has 2 classes, numbered from 0; found the train label 100000000"):
        load_images(spec, height=4, width=4, channels=1, label_names=["a", "b"])
    with pytest.raises(DataError, match="has the labels 100000000, which are none of the network's classes 0, 1"):
        load_images(spec, height=4, width=4, channels=1, label_names=["0", "1"])
    assert len(load_unlabelled(spec, height=4, width=4, channels=1)) == 3


def test_a_single_class_is_refused(tmp_path):
    spec = save(tmp_path / "one.npz", images=np.zeros((9, 4, 4), np.uint8), labels=np.zeros(9, int))
    with pytest.raises(DataError, match="one has a single class, 0, and there is nothing to tell it from; add images"):
        load_data(spec)


# Specifications, and sets to evaluate on


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "no data set 'digit'.*did you mean digits?"),
        ("nonsense", "give a .npz file, a folder, or one of digits, mnist, fashion-mnist"),
        ("digits:", "a colon but no path"),
        ("digits:somewhere", "digits comes with scikit-learn and has no path"),
        ("", "no data set ''"),
        ("~nosuchuser/x", "no data set '~nosuchuser/x'"),
        ("folder:~nosuchuser/x", "~nosuchuser/x"),
        ("cifar10-c:~nosuchuser/x:fog:3", "~nosuchuser/x"),
        ("npz", "found no path; write FILE.npz"),
    ],
)
def test_specifications_that_name_nothing_are_refused(spec, message):
    with pytest.raises(DataError, match=message):
        load_data(spec)


@pytest.mark.parametrize("validation", [-0.1, 1.0, float("nan")])
def test_a_validation_fraction_out_of_range_is_refused(validation):
    with pytest.raises(DataError, match="give one in"):
        load_data("digits", validation=validation)


def test_no_validation_images_can_be_asked_for():
    data = load_data("digits", validation=0)
    assert [len(data.train), len(data.validation), data.validation_count] == [1437, 0, 0]


def test_a_named_split_is_the_one_that_training_saw():
    data = load_data("digits", validation=0.2, seed=7)
    for split, part in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        images = load_images(
            f"digits:{split}", height=8, width=8, channels=1, label_names=DIGITS, validation=0.2, seed=7
        )
        assert same_images(images, part)


def test_a_carved_test_split_can_be_named(tmp_path):
    spec = save(tmp_path / "shapes.npz", **arrays())
    images = load_images(f"{spec}:test", height=6, width=5, channels=1, label_names=["0", "1", "2"])
    assert same_images(images, load_data(spec, seed=3).test)


def test_images_of_another_size_are_resized_only_when_asked():
    with pytest.raises(DataError, match=r"channels \(8, 8, 1\); the network takes \(12, 12, 1\)"):
        load_images("digits:test", height=12, width=12, channels=1, label_names=DIGITS)
    images = load_images("digits:test", height=12, width=12, channels=1, label_names=DIGITS, resize=True)
    assert same_images(images, load_data("digits", image_size=12).test)


def test_images_with_other_classes_are_refused(tmp_path):
    with pytest.raises(DataError, match="other classes than the network: 0, 1, 2, 3, 4 and 5 more instead of a, b"):
        load_images("digits:test", height=8, width=8, channels=1, label_names=["a", "b"])
    spec = save(tmp_path / "shapes.npz", **arrays())
    with pytest.raises(DataError, match="has 2 classes, numbered from 0; found the train label 2"):
        load_images(spec, height=6, width=5, channels=1, label_names=["a", "b"])
    with pytest.raises(DataError, match="digits has the splits train, test; say which one, as in digits:test"):
        load_images("digits", height=8, width=8, channels=1, label_names=DIGITS)
