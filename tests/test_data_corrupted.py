"""Corrupted images: made as they are read, and read from the layouts in which they are published."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subspace_serve.data import (
    ArrayImages,
    CorruptedImages,
    MemoryImages,
    corruptions_in,
    load_data,
    load_images,
    load_part,
    load_unlabelled,
)
from subspace_serve.data.corruptions import corrupt
from subspace_serve.data.sources.cifar_names import CIFAR10_NAMES, CIFAR100_NAMES
from subspace_serve.errors import DataError

CIFAR = list(CIFAR10_NAMES)
DIGITS = [str(digit) for digit in range(10)]


def noise(count: int, side: int = 10, channels: int = 3) -> MemoryImages:
    pixels = np.random.default_rng(count).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return MemoryImages(pixels, np.arange(count) % 10)


# Corrupted as they are read


def test_what_is_read_is_what_corrupt_makes_whatever_the_batch():
    images = noise(9)
    expected = corrupt(images.pixels, "gaussian_noise", 3, seed=5)
    view = CorruptedImages(images, "gaussian_noise", 3, seed=5)
    assert (view.shape, len(view), view.labels.tolist()) == ((10, 10, 3), 9, list(range(9)))
    assert np.array_equal(view.take(np.arange(9))[0], expected)
    assert np.array_equal(np.concatenate([pixels for pixels, _ in view.batches(4)]), expected)
    for pixels, labels in view.batches(4, generator=np.random.default_rng(0)):
        assert np.array_equal(pixels, expected[labels])
    part = view.subset(np.array([7, 2]))
    assert np.array_equal(part.take(np.arange(2))[0], expected[[7, 2]])
    assert part.labels.tolist() == [7, 2]
    assert view.with_labels(np.full(9, 4)).labels.tolist() == [4] * 9
    assert np.array_equal(view.with_labels(np.zeros(9, int)).take(np.arange(9))[0], expected)


def test_the_images_size_chooses_the_preset_and_a_name_overrules_it():
    images = noise(2)
    assert CorruptedImages(images, "fog", 1).preset == "cifar"
    strong = CorruptedImages(images, "gaussian_noise", 5, preset="imagenet")
    expected = corrupt(images.pixels, "gaussian_noise", 5, preset="imagenet")
    assert np.array_equal(strong.take(np.arange(2))[0], expected)
    assert strong.subset(np.array([0])).preset == "imagenet"


def test_the_fingerprint_is_of_the_images_and_how_they_are_corrupted():
    images = noise(3)
    prints = [
        CorruptedImages(images, "fog", 1).fingerprint(),
        CorruptedImages(images, "snow", 1).fingerprint(),
        CorruptedImages(images, "fog", 2).fingerprint(),
        CorruptedImages(images, "fog", 1, preset="tiny").fingerprint(),
        CorruptedImages(images, "fog", 1, seed=1).fingerprint(),
        CorruptedImages(noise(4), "fog", 1).fingerprint(),
        images.fingerprint(),
    ]
    assert len(set(prints)) == 7
    assert CorruptedImages(images, "fog", 1, preset="cifar", workers=1).fingerprint() == prints[0]


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        (noise(1), ("fogg", 1), "did you mean fog"),
        (noise(1), ("fog", 6), "from 1 to 5; found 6"),
        (noise(1, channels=2), ("fog", 1), r"found \(0, 10, 10, 2\)"),
        (noise(1, side=7), ("fog", 1), "8 pixels wide and high at least"),
    ],
)
def test_what_cannot_be_corrupted_is_refused_at_once(images, arguments, message):
    with pytest.raises(DataError, match=message):
        CorruptedImages(images, *arguments)
    with pytest.raises(DataError, match="no severity preset 'cifer'"):
        CorruptedImages(noise(1), "fog", 1, preset="cifer")


class Streamed(MemoryImages):
    """Images that record how many are asked for at once."""

    asked: list[int]

    def read(self, chosen, areas=None):
        for pixels in super().read(chosen, areas):
            self.asked = [*getattr(self, "asked", []), len(pixels)]
            yield pixels


def test_many_images_are_taken_a_part_at_a_time():
    """As many as fit in 32 MiB."""
    images = Streamed(np.zeros((2500, 128, 128, 1), np.uint8), np.zeros(2500, np.int64))
    pixels, labels = CorruptedImages(images, "brightness", 1).take(np.arange(2500))
    assert (len(pixels), len(labels), images.asked) == (2500, 2500, [2048, 452])


# CIFAR-10-C and its layout


def write_cifar_c(folder: Path, count: int = 6, shape: tuple[int, ...] = (32, 32, 3), labels: int = 10) -> Path:
    """Pixels are 10 x severity + place, and 100 more in snow."""
    folder.mkdir(parents=True, exist_ok=True)
    values = (10 * np.arange(1, 6)[:, None] + np.arange(count)).reshape(-1, *(1,) * len(shape))
    for name, more in (("fog", 0), ("snow", 100)):
        np.save(folder / f"{name}.npy", (values + more).astype(np.uint8) * np.ones(shape, np.uint8))
    np.save(folder / "labels.npy", np.tile(np.arange(count) % labels, 5).astype(np.uint8))
    return folder


def read(spec: str, shape: tuple[int, int, int] = (32, 32, 3), names: list[str] = CIFAR, **options):
    height, width, channels = shape
    return load_images(spec, height=height, width=width, channels=channels, label_names=names, **options)


def first_pixels(images) -> list[int]:
    return images.take(np.arange(len(images)))[0][:, 0, 0, 0].tolist()


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("named", ["CIFAR-10-C", "."])
def test_cifar10_c_severities_lie_one_after_another(tmp_path, severity, named):
    write_cifar_c(tmp_path / "CIFAR-10-C")
    images = read(f"cifar10-c:{tmp_path / named}:fog:{severity}")
    assert isinstance(images, ArrayImages)
    assert isinstance(images.pixels, np.memmap)
    assert first_pixels(images) == [10 * severity + place for place in range(6)]
    assert images.labels.tolist() == list(range(6))
    assert first_pixels(read(f"cifar10-c:{tmp_path / named}:snow:{severity}:test"))[0] == 100 + 10 * severity


def test_small_grey_sets_in_that_layout_are_read_too(tmp_path):
    for shape in ((28, 28, 1), (28, 28)):
        write_cifar_c(tmp_path, count=2, shape=shape)
        assert first_pixels(read(f"cifar10-c:{tmp_path}:fog:2", (28, 28, 1))) == [20, 21]


def test_cifar100_c_has_the_fine_classes(tmp_path):
    write_cifar_c(tmp_path, labels=100)
    names = list(CIFAR100_NAMES)
    assert (len(names), names[0], names[99], names == sorted(names)) == (100, "apple", "worm", True)
    assert read(f"cifar100-c:{tmp_path}:fog:1", names=names).labels.tolist() == list(range(6))
    with pytest.raises(DataError, match="other classes than the network: apple, aquarium_fish.*instead of airplane"):
        read(f"cifar100-c:{tmp_path}:fog:1")


def test_a_path_may_have_colons(tmp_path):
    write_cifar_c(tmp_path / "a:b:c")
    assert first_pixels(read(f"cifar10-c:{tmp_path}/a:b:c:snow:1"))[0] == 110


def damage_images(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "fog.npy", change(np.load(folder / "fog.npy")))


def damage_labels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "labels.npy", change(np.load(folder / "labels.npy")))


def truncate(folder: Path) -> None:
    (folder / "fog.npy").write_bytes((folder / "fog.npy").read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, r"fog.npy should be 92288 bytes long.*found 91288 bytes: it is truncated"),
        (damage_images(lambda pixels: pixels[:-1]), r"fog.npy should hold 5 severities .*found 29 images"),
        (damage_images(lambda pixels: pixels[:0]), r"found 0 images"),
        (damage_images(lambda pixels: pixels / 255), r"fog.npy must be uint8 .*found float64"),
        (damage_images(lambda pixels: pixels.reshape(30, -1)), r"fog.npy must be uint8 .*\(30, 3072\)"),
        (damage_labels(lambda labels: labels[:6]), r"labels.npy must be one integer per image, shape \(30,\)"),
        (damage_labels(np.sort), r"labels.npy should repeat the same 6 labels"),
        (damage_labels(lambda labels: labels / 2), r"labels.npy must be integers; found float64"),
        (damage_labels(lambda labels: labels + 5), "has 10 classes, numbered from 0; found the test label 10"),
        (lambda folder: (folder / "labels.npy").unlink(), r"there is no file .*labels.npy"),
    ],
)
def test_damaged_cifar_c_is_refused(tmp_path, spoil, message):
    spoil(write_cifar_c(tmp_path))
    with pytest.raises(DataError, match=message):
        read(f"cifar10-c:{tmp_path}:fog:1")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar10-c", "found no path; write cifar10-c:PATH:TYPE:SEVERITY"),
        ("cifar10-c:", "found no path"),
        ("cifar10-c:{root}", r"needs a type of corruption; found fog, snow in .*write for example .*:fog:5"),
        ("cifar10-c:{root}:fog", "severities 1, 2, 3, 4, 5; found no severity; write for example .*:fog:5"),
        ("cifar10-c:{root}:fgo:3", "no corruption 'fgo' in .*found fog, snow; did you mean fog?"),
        ("cifar10-c:{root}:fog:6", "there is no severity '6'"),
        ("cifar10-c:{root}:fog:03", "there is no severity '03'"),
        ("cifar10-c:{root}:fog:three", "there is no severity 'three'"),
        ("cifar10-c:{root}/absent:fog:3", "found none at .*absent; write"),
        ("cifar10-c:{root}/empty:fog:3", "holds no corrupted images in the layout of cifar10-c; found nothing"),
        ("cifar-10-c:{root}:fog:3", "did you mean cifar10-c"),
        ("cifar10-c:{root}:fog:3:validation", "no training images; found only test"),
    ],
)
def test_wrong_specifications_say_what_is_there(tmp_path, spec, message):
    write_cifar_c(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        read(spec.format(root=tmp_path))


def test_nothing_is_trained_on_corrupted_test_images(tmp_path):
    write_cifar_c(tmp_path)
    with pytest.raises(DataError, match="no training images; found only corrupted test images"):
        load_data(f"cifar10-c:{tmp_path}:fog:3")


def test_mapped_images_are_resized_only_when_asked(tmp_path):
    write_cifar_c(tmp_path)
    spec = f"cifar10-c:{tmp_path}:fog:2"
    with pytest.raises(DataError, match=r"\(32, 32, 3\); the network takes \(24, 24, 3\); --resize brings them"):
        read(spec, (24, 24, 3))
    images = read(spec, (24, 24, 3), resize=True)
    assert isinstance(images.images.pixels, np.memmap)
    assert images.shape == (24, 24, 3)
    assert first_pixels(images) == list(range(20, 26))
    with pytest.raises(DataError, match=r"the network takes \(32, 32, 1\); convert the images"):
        read(spec, (32, 32, 1), resize=True)


# ImageNet-C, Tiny-ImageNet-C


def write_imagenet_c(root: Path, side: int, severities: tuple[int, ...] = (1, 2)) -> Path:
    for name in ("fog", "zoom_blur"):
        for severity in severities:
            for label, wnid in enumerate(("n01", "n02")):
                folder = root / name / str(severity) / wnid
                folder.mkdir(parents=True)
                picture = np.full((side, side, 3), 20 * severity + label, np.uint8)
                # A frame that an evaluation of whole pictures cuts off.
                picture[:8] = picture[-8:] = picture[:, :8] = picture[:, -8:] = 200
                Image.fromarray(picture).save(folder / "0.JPEG", format="PNG")
    return root


@pytest.mark.parametrize(("name", "side"), [("imagenet-c", 224), ("tiny-imagenet-c", 64)])
def test_published_files_of_the_networks_size_are_unchanged(tmp_path, name, side):
    write_imagenet_c(tmp_path, side)
    assert corruptions_in(f"{name}:{tmp_path}") == {"fog": (1, 2), "zoom_blur": (1, 2)}
    images = read(f"{name}:{tmp_path}:zoom_blur:2", (side, side, 3), ["n01", "n02"])
    pixels, labels = images.take(np.arange(2))
    assert labels.tolist() == [0, 1]
    for label, image in enumerate(pixels):
        file = tmp_path / "zoom_blur" / "2" / ("n01", "n02")[label] / "0.JPEG"
        assert np.array_equal(image, np.asarray(Image.open(file)))
    assert np.array_equal(images.subset(np.array([1])).take(np.array([0]))[0], pixels[1:])


def test_imagenet_c_shows_the_whole_picture_to_smaller_networks_and_matches_classes_by_name(tmp_path):
    write_imagenet_c(tmp_path, 224)
    images = read(f"imagenet-c:{tmp_path}:fog:1", (160, 160, 3), ["n02", "n00", "n01"])
    pixels, labels = images.take(np.arange(2))
    assert labels.tolist() == [2, 0]
    assert pixels[:, 80, 80, 0].tolist() == [20, 21]
    assert pixels[:, 0, 0, 0].tolist() == [200, 200]


def test_wrong_imagenet_c_is_refused(tmp_path):
    write_imagenet_c(tmp_path, 16)
    with pytest.raises(DataError, match="has the severities 1, 2; there is no severity '3'"):
        read(f"imagenet-c:{tmp_path}:fog:3", (16, 16, 3), ["n01", "n02"])
    with pytest.raises(DataError, match="has a folder n02, which is none of the classes; did you mean n03"):
        read(f"tiny-imagenet-c:{tmp_path}:fog:1", (16, 16, 3), ["n01", "n03"])
    with pytest.raises(DataError, match="in the layout of imagenet-c; found 1, 2"):
        read(f"imagenet-c:{tmp_path}/fog:fog:1", (16, 16, 3), ["n01", "n02"])


# MedMNIST and MedMNIST-C


def write_medmnist_c(root: Path, count: int = 4, **change: np.ndarray) -> Path:
    folder = root / "bloodmnist"
    folder.mkdir(parents=True, exist_ok=True)
    values = (10 * np.arange(1, 6)[:, None] + np.arange(count)).reshape(-1, 1, 1, 1)
    content = {
        "test_images": values.astype(np.uint8) * np.ones((28, 28, 3), np.uint8),
        "test_labels": np.tile(np.arange(count), 5)[:, None],
    }
    for name in ("bubble", "stain_deposit"):
        np.savez_compressed(folder / f"{name}.npz", **(content | change))
    return folder


def test_medmnist_c_has_types_of_its_own(tmp_path):
    folder = write_medmnist_c(tmp_path)
    assert list(corruptions_in(f"medmnist-c:{folder}")) == ["bubble", "stain_deposit"]
    images = read(f"medmnist-c:{folder}:bubble:3", (28, 28, 3), list("abcd"))
    assert first_pixels(images) == [30, 31, 32, 33]
    assert images.labels.tolist() == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"several data sets of medmnist-c; found bloodmnist; name one"):
        read(f"medmnist-c:{tmp_path}:bubble:3", (28, 28, 3), list("abcd"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_images": np.zeros((19, 28, 28), np.uint8)}, "5 severities of equally many images; found 19"),
        ({"test_images": np.zeros((20, 28, 28))}, "must be uint8 .*found float64"),
        ({"test_labels": np.zeros((20, 14), int)}, r"several labels per image; found shape \(20, 14\)"),
        ({"test_labels": np.array([None] * 20)}, "cannot be read as .npz .*object"),
        ({"test_labels": np.arange(20)}, "has 4 classes, numbered from 0; found the test label 11"),
    ],
)
def test_wrong_medmnist_c_is_refused(tmp_path, change, message):
    folder = write_medmnist_c(tmp_path, **change)
    with pytest.raises(DataError, match=message):
        read(f"medmnist-c:{folder}:bubble:3", (28, 28, 3), list("abcd"))


def test_a_medmnist_c_with_a_spoilt_header_is_refused(tmp_path):
    path = write_medmnist_c(tmp_path) / "bubble.npz"
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["test_images.npy"] = content["test_images.npy"].replace(b")", b" ", 1)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(DataError, match="bubble.npz cannot be read as .npz"):
        read(f"medmnist-c:{path.parent}:bubble:3", (28, 28, 3), list("abcd"))


def test_a_damaged_medmnist_c_is_refused_even_where_it_is_not_used(tmp_path):
    path = write_medmnist_c(tmp_path) / "bubble.npz"
    with np.load(path) as file:
        np.savez(path, **file)
    content = bytearray(path.read_bytes())
    # The last image of severity 5, while severity 1 is asked for: only the archive's checksum tells.
    content[content.rindex(bytes([53] * 100))] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="bubble.npz cannot be read as .npz .*CRC"):
        read(f"medmnist-c:{path.parent}:bubble:1", (28, 28, 3), list("abcd"))
    path.write_bytes(content[:-100])
    with pytest.raises(DataError, match="bubble.npz cannot be read as .npz"):
        read(f"medmnist-c:{path.parent}:bubble:1", (28, 28, 3), list("abcd"))


def test_grey_medmnist_is_read_and_several_labels_per_image_are_refused(tmp_path):
    content = {}
    for split in ("train", "val", "test"):
        content |= {f"{split}_images": np.zeros((4, 28, 28), np.uint8), f"{split}_labels": np.arange(4)[:, None]}
    np.savez(tmp_path / "organ.npz", **content)
    assert read(f"{tmp_path}/organ.npz:test", (28, 28, 1), list("abcd")).labels.tolist() == [0, 1, 2, 3]
    np.savez(tmp_path / "chest.npz", **content | {"val_labels": np.zeros((4, 14), np.uint8)})
    with pytest.raises(DataError, match=r"val_labels in .*chest.npz give several labels per image"):
        load_data(f"{tmp_path}/chest.npz")


# MNIST-C


def write_mnist_c(root: Path) -> Path:
    for number, name in enumerate(("fog", "zigzag")):
        (root / name).mkdir(parents=True)
        for split, count in (("train", 30), ("test", 10)):
            pixels = np.full((count, 28, 28, 1), 100 * number + count, np.uint8)
            np.save(root / name / f"{split}_images.npy", pixels)
            np.save(root / name / f"{split}_labels.npy", np.arange(count) % 10)
    return root


def test_mnist_c_has_no_severities_and_means_its_test_images(tmp_path):
    write_mnist_c(tmp_path)
    assert corruptions_in(f"mnist-c:{tmp_path}") == {"fog": (), "zigzag": ()}
    images = read(f"mnist-c:{tmp_path}:zigzag", (28, 28, 1), DIGITS)
    assert first_pixels(images) == [110] * 10
    assert first_pixels(read(f"mnist-c:{tmp_path}:zigzag:test", (28, 28, 1), DIGITS)) == [110] * 10
    assert len(read(f"mnist-c:{tmp_path}:fog:train", (28, 28, 1), DIGITS)) == 20
    assert len(read(f"mnist-c:{tmp_path}:fog:validation", (28, 28, 1), DIGITS, validation=0.4)) == 12
    data = load_data(f"mnist-c:{tmp_path}:fog", validation=0)
    assert [len(data.train), len(data.validation), len(data.test)] == [30, 0, 10]
    with pytest.raises(DataError, match="mnist-c has no severities; found severity '3'"):
        read(f"mnist-c:{tmp_path}:fog:3", (28, 28, 1), DIGITS)
    with pytest.raises(DataError, match="write for example mnist-c:.*:fog$"):
        read(f"mnist-c:{tmp_path}", (28, 28, 1), DIGITS)


def test_corruptions_in_lists_types_and_severities(tmp_path):
    write_cifar_c(tmp_path)
    (tmp_path / "._fog.npy").write_bytes(b"what macOS puts beside a file")
    assert corruptions_in(f"cifar10-c:{tmp_path}") == {"fog": (1, 2, 3, 4, 5), "snow": (1, 2, 3, 4, 5)}
    for spec, message in (
        ("digits", "names no set of corrupted images; give one of cifar10-c:PATH"),
        (f"cifar10-c:{tmp_path}:fog", "should end with the path; found 'fog' behind it"),
        (f"cifar10-c:{tmp_path}/absent", "found none at"),
    ):
        with pytest.raises(DataError, match=message):
            corruptions_in(spec)


# Without labels, and by part


def unlabelled(spec: str, side: int = 8, channels: int = 3, **options):
    return load_unlabelled(spec, height=side, width=side, channels=channels, **options)


def save_images(folder: Path, values: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for value in values:
        Image.new("RGB", (12, 8), (value,) * 3).save(folder / f"{value:03}.png")


def test_a_folder_of_images_needs_no_classes_for_calibration(tmp_path):
    save_images(tmp_path / "camera", [30, 10])
    save_images(tmp_path / "camera" / "night", [20])
    save_images(tmp_path / "camera" / ".ipynb_checkpoints", [40])
    (tmp_path / "camera" / "._10.png").write_bytes(b"what macOS puts beside a file")
    (tmp_path / "camera" / "up").symlink_to("..")
    (tmp_path / "camera" / "night" / "again.png").symlink_to("020.png")
    (tmp_path / "camera" / "notes.txt").write_text("no image")
    images = unlabelled(str(tmp_path / "camera"))
    assert first_pixels(images) == [10, 30, 20]
    assert images.labels.tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="folder night, which is none of the classes"):
        read(str(tmp_path / "camera"), (8, 8, 3), ["day"])


def test_any_labelled_set_calibrates_whatever_its_classes(tmp_path):
    for number, name in enumerate(("eel", "fox")):
        save_images(tmp_path / "animals" / name, [10 * number + 1, 10 * number + 2])
    assert first_pixels(unlabelled(f"folder:{tmp_path}/animals")) == [1, 2, 11, 12]
    assert len(unlabelled("digits:validation", channels=1)) == 144
    write_cifar_c(tmp_path / "c")
    assert first_pixels(unlabelled(f"cifar10-c:{tmp_path}/c:fog:1", side=32))[0] == 10
    assert unlabelled("digits:train", side=12, channels=1, resize=True).shape == (12, 12, 1)
    with pytest.raises(DataError, match="--resize brings them"):
        unlabelled("digits:test", side=12, channels=1)
    with pytest.raises(DataError, match="digits has the splits train, test; say which one"):
        unlabelled("digits", channels=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        unlabelled(str(tmp_path / "empty"))


def test_an_npz_file_needs_no_labels_for_calibration(tmp_path):
    np.savez(tmp_path / "only.npz", images=np.full((5, 8, 8), 9, np.uint8))
    images = unlabelled(f"{tmp_path}/only.npz", channels=1)
    assert (first_pixels(images), images.labels.tolist()) == ([9] * 5, [0] * 5)
    with pytest.raises(DataError, match="has no labels; found images"):
        read(f"{tmp_path}/only.npz", (8, 8, 1), DIGITS)


def test_one_part_of_a_set_is_that_of_training(tmp_path):
    data = load_data("digits", validation=0.2, seed=3)
    for split, part in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        images, names = load_part("digits", split, validation=0.2, seed=3)
        assert images.fingerprint() == part.fingerprint()
        assert names == data.label_names
    assert load_part("digits", "test", image_size=16)[0].shape == (16, 16, 1)
    np.savez(tmp_path / "t.npz", test_images=np.zeros((3, 8, 8), np.uint8), test_labels=np.arange(3))
    assert len(load_part(f"{tmp_path}/t.npz", "test")[0]) == 3
    with pytest.raises(DataError, match="no training images"):
        load_part(f"{tmp_path}/t.npz", "validation")
    with pytest.raises(DataError, match="digits:validation is empty|digits is empty"):
        load_part("digits", "validation", validation=0)
