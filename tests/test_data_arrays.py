"""Images in memory-mapped arrays, images resized as they are read, and damaged .npy files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from subspace_serve.data import ArrayImages, Augmentation, FolderImages, MemoryImages
from subspace_serve.data.sources.arrays import checked_pixels, integer_labels, open_npy
from subspace_serve.data.views import ResizedImages, resized
from subspace_serve.errors import DataError


def saved(path: Path, count: int = 11, shape: tuple[int, ...] = (4, 5, 3)) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    np.save(path, pixels)
    return pixels


@pytest.fixture
def pixels(tmp_path: Path) -> np.ndarray:
    return saved(tmp_path / "images.npy")


@pytest.fixture
def mapped(tmp_path: Path, pixels: np.ndarray) -> ArrayImages:
    return ArrayImages(open_npy(tmp_path / "images.npy"), np.arange(11))


def seeded() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("generator", "augmentation"), [(None, None), (seeded, None), (seeded, Augmentation(padding=1, flip=True))]
)
def test_mapped_images_yield_the_bytes_of_those_in_memory(mapped, pixels, generator, augmentation):
    def epoch(images):
        given = generator and generator()
        return list(images.batches(4, generator=given, augmentation=augmentation, drop_last=generator is not None))

    got, expected = epoch(mapped), epoch(MemoryImages(pixels, np.arange(11)))
    assert len(got) == (3 if generator is None else 2)
    for (first, first_labels), (second, second_labels) in zip(got, expected, strict=True):
        assert np.array_equal(first, second)
        assert np.array_equal(first_labels, second_labels)


def test_the_file_stays_on_disk_until_a_batch_is_read(mapped, pixels):
    assert isinstance(mapped.pixels, np.memmap)
    part = mapped.subset(np.array([9, 2, 5, 0])).subset(np.array([3, 1, 1]))
    assert part.pixels is mapped.pixels
    assert part.rows.tolist() == [0, 2, 2]
    assert part.labels.tolist() == [0, 2, 2]
    assert np.array_equal(part.take(np.array([2, 0]))[0], pixels[[2, 0]])
    assert [labels.tolist() for _, labels in part.batches(2)] == [[0, 2], [2]]
    taken, _ = mapped.take(np.array([1]))
    taken += 1
    assert np.array_equal(mapped.take(np.array([1]))[0], pixels[[1]])


def test_mapped_images_have_the_fingerprint_of_those_in_memory(mapped, pixels):
    memory = MemoryImages(pixels, np.arange(11))
    order = np.array([3, 1, 7])
    assert mapped.fingerprint() == memory.fingerprint()
    assert mapped.subset(order).fingerprint() == memory.subset(order).fingerprint()
    assert mapped.subset(order).fingerprint() != mapped.subset(order[::-1]).fingerprint()
    assert mapped.with_labels(np.zeros(11, np.int64)).fingerprint() != mapped.fingerprint()


def test_columns_first_files_are_read_right(tmp_path, pixels):
    np.save(tmp_path / "columns.npy", np.asfortranarray(pixels))
    images = ArrayImages(open_npy(tmp_path / "columns.npy"), np.arange(11))
    assert np.array_equal(images.take(np.arange(11))[0], pixels)


def test_wrong_arrays_are_refused():
    with pytest.raises(DataError, match=r"found float32 of shape \(2, 4, 4, 1\)"):
        ArrayImages(np.zeros((2, 4, 4, 1), np.float32), np.arange(2))
    with pytest.raises(DataError, match=r"shape \(2,\); found shape \(3,\)"):
        ArrayImages(np.zeros((2, 4, 4, 1), np.uint8), np.arange(3))
    with pytest.raises(DataError, match=r"must be uint8 .*found int64 of shape \(2, 4, 4, 1\)"):
        checked_pixels(np.zeros((2, 4, 4), np.int64), "images")
    with pytest.raises(DataError, match="several labels per image; found shape"):
        integer_labels(np.zeros((4, 14), int), 4, "labels")
    with pytest.raises(DataError, match=r"shape \(5,\); found shape \(4,\)"):
        integer_labels(np.zeros(4, int), 5, "labels")
    assert integer_labels(np.array([[3], [1]], np.uint8), 2, "labels").tolist() == [3, 1]
    assert checked_pixels(np.zeros((2, 28, 28), np.uint8), "images").shape == (2, 28, 28, 1)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a file was unpickled",))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def objects(path: Path) -> None:
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, r"should be 788 bytes long, with an array uint8 of \(11, 4, 5, 3\); found 781 bytes: it is trunc"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "found 789 bytes"),
        (objects, "holds Python objects, which stay unread"),
        (lambda path: path.write_bytes(pickle.dumps(Bomb())), r"cannot be read as .npy"),
        (lambda path: path.write_bytes(b""), r"cannot be read as .npy"),
        (lambda path: path.write_bytes(path.read_bytes()[:40]), r"cannot be read as .npy"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b")", b" ")), r"cannot be read as .npy"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"}", b" ")), r"cannot be read as .npy"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"'descr'", b"b'escr'")), r"cannot be read as .npy"),
        (lambda path: path.unlink(), "there is no file"),
    ],
)
def test_damaged_npy_files_are_refused_by_name(tmp_path, pixels, spoil, message):
    path = tmp_path / "images.npy"
    spoil(path)
    with pytest.raises(DataError, match=message) as caught:
        open_npy(path)
    assert str(path) in str(caught.value)


def test_images_are_resized_as_they_are_read(mapped, pixels):
    memory = resized(MemoryImages(pixels, np.arange(11)), 9, 7)
    view = resized(mapped, 9, 7)
    assert isinstance(view, ResizedImages)
    assert (view.shape, len(view), view.labels.tolist()) == ((9, 7, 3), 11, list(range(11)))
    assert np.array_equal(view.take(np.arange(11))[0], memory.pixels)
    assert np.array_equal(np.concatenate([batch for batch, _ in view.batches(4)]), memory.pixels)
    part = view.subset(np.array([8, 3]))
    assert np.array_equal(part.take(np.array([1]))[0], memory.pixels[[3]])
    assert view.fingerprint() == memory.fingerprint()
    assert view.with_labels(np.zeros(11, np.int64)).labels.tolist() == [0] * 11
    assert view.take(np.zeros(0, np.int64))[0].shape == (0, 9, 7, 3)
    assert resized(mapped, 4, 5) is mapped
    assert isinstance(resized(memory, 4, 4), MemoryImages)


def test_a_view_augments_what_it_has_changed(mapped):
    augmentation = Augmentation(padding=1, flip=True)
    memory = MemoryImages(*resized(mapped, 8, 8).take(np.arange(11)))
    expected = [batch for batch, _ in memory.batches(4, generator=seeded(), augmentation=augmentation)]
    got = [batch for batch, _ in resized(mapped, 8, 8).batches(4, generator=seeded(), augmentation=augmentation)]
    assert all(map(np.array_equal, got, expected))
    assert len(got) == len(expected) == 3


def test_a_view_of_files_lets_them_cut_random_areas(tmp_path):
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    files = FolderImages(tmp_path, ["a.png"], np.array([0]), size=16)
    crop = Augmentation(resized_crop=True)
    (expected, _), *_ = files.batches(1, generator=seeded(), augmentation=crop)
    (got, _), *_ = ResizedImages(files, 16, 16).batches(1, generator=seeded(), augmentation=crop)
    assert np.array_equal(got, expected)
    assert not np.array_equal(got, files.take(np.array([0]))[0])
