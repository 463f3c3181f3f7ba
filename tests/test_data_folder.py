"""Image files: decoding, random areas, workers, and the folder layouts."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from image_files import save_noise
from PIL import Image

from subspace_serve.data import Augmentation, FolderImages, load_checked, load_data, load_images, summary
from subspace_serve.data.decoding import Decoder
from subspace_serve.errors import DataError

CROP = Augmentation(flip=True, resized_crop=True)


def save(path: Path, color: int | tuple[int, ...] = (10, 20, 30), size: tuple[int, int] = (24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if isinstance(color, tuple) else "L", size, color).save(path)
    return path


@pytest.fixture
def noise(tmp_path: Path) -> FolderImages:
    names = [f"{index:02}.png" for index in range(11)]
    for index, name in enumerate(names):
        save_noise(tmp_path / name, seed=index)
    return FolderImages(tmp_path, names, np.arange(11), size=8, workers=0)


def with_workers(images: FolderImages, workers: int) -> FolderImages:
    return FolderImages(images.root, images.files.tolist(), images.labels, size=images.size, workers=workers)


def pixels_of(images: FolderImages, generator: np.random.Generator | None, augmentation: Augmentation | None):
    return np.concatenate([pixels for pixels, _ in images.batches(4, generator=generator, augmentation=augmentation)])


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_batches_are_decoded_in_order_with_a_smaller_last_one(noise):
    batches = list(noise.batches(4))
    assert [labels.tolist() for _, labels in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert [tuple(pixels.shape) for pixels, _ in batches] == [(4, 8, 8, 3), (4, 8, 8, 3), (3, 8, 8, 3)]
    assert {pixels.dtype for pixels, _ in batches} == {np.dtype(np.uint8)}
    assert noise.shape == (8, 8, 3)
    assert [len(labels) for _, labels in noise.batches(4, drop_last=True)] == [4, 4]


def test_shuffled_batches_pair_images_with_their_labels(noise):
    in_order, _ = noise.take(np.arange(11))
    labels = []
    for pixels, batch_labels in noise.batches(4, generator=seeded()):
        assert np.array_equal(pixels, in_order[batch_labels])
        labels += batch_labels.tolist()
    assert labels != list(range(11))
    assert sorted(labels) == list(range(11))


def test_the_generator_decides_every_byte_whatever_the_number_of_workers(noise):
    expected = pixels_of(noise, seeded(), CROP)
    assert np.array_equal(pixels_of(noise, seeded(), CROP), expected)
    assert np.array_equal(pixels_of(with_workers(noise, 2), seeded(), CROP), expected)
    assert not np.array_equal(pixels_of(noise, seeded(1), CROP), expected)


def test_threads_decode_a_few_batches_ahead_and_end_with_the_iteration(noise, monkeypatch):
    decoded = []
    decode = Decoder.decode
    monkeypatch.setattr(Decoder, "decode", lambda *arguments: decoded.append(1) or decode(*arguments))
    before = threading.active_count()
    batches = with_workers(noise, 2).batches(2)
    pixels, _ = next(batches)
    assert np.array_equal(pixels, noise.take(np.arange(2))[0])
    # This batch and two more, and the two images that were taken to compare.
    assert len(decoded) <= 6 + 2
    batches.close()
    assert threading.active_count() == before
    assert len(decoded) <= 6 + 2


def test_many_files_are_decoded_by_threads_of_this_process(tmp_path, monkeypatch):
    """Other processes would hand pixels over in shared memory, of which a container has 64 MB."""
    save_noise(tmp_path / "a.png", 0)
    images = FolderImages(tmp_path, ["a.png"] * 600, np.zeros(600, np.int64), size=16)
    decoding, decode = set(), Decoder.decode

    def noted(*arguments):
        decoding.add((os.getpid(), threading.current_thread().name))
        return decode(*arguments)

    monkeypatch.setattr(Decoder, "decode", noted)
    monkeypatch.setattr("subspace_serve.data.folder.available_cores", lambda: 2)
    batches = images.batches(50)
    first, _ = next(batches)
    assert sum(len(labels) for _, labels in batches) == 550
    assert {process for process, _ in decoding} == {os.getpid()}
    assert threading.current_thread().name not in {thread for _, thread in decoding}
    assert np.array_equal(first, with_workers(images, 0).take(np.arange(50))[0])


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 5 GiB"), KeyboardInterrupt()])
def test_what_ends_a_thread_ends_the_iteration(noise, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("subspace_serve.data.decoding.prepared", fail)
    before = threading.active_count()
    with pytest.raises(type(error)):
        list(with_workers(noise, 2).batches(2))
    assert threading.active_count() == before


def test_the_global_generator_is_left_alone(noise):
    before = np.random.get_state()
    pixels_of(noise, seeded(), CROP)
    assert all(map(np.array_equal, np.random.get_state(), before))


def test_random_areas_differ_from_the_middle_and_from_epoch_to_epoch(noise):
    generator = seeded()
    crop = Augmentation(resized_crop=True)
    first, second = pixels_of(noise, generator, crop), pixels_of(noise, generator, crop)
    middle, _ = noise.take(np.arange(11))
    assert not np.array_equal(first, second)
    assert not np.isin(first.mean(axis=(1, 2, 3)), middle.mean(axis=(1, 2, 3))).all()


def test_padding_and_flips_work_on_files_too(tmp_path):
    save(tmp_path / "white.png", (255, 255, 255), (8, 8))
    images = FolderImages(tmp_path, ["white.png"] * 40, np.zeros(40, np.int64), size=8)
    pixels = pixels_of(images, seeded(), Augmentation(padding=2, flip=True))
    covered = (pixels[..., 0] == 255).sum(axis=(1, 2))
    assert set(covered.tolist()) <= {36, 42, 48, 49, 56, 64}
    assert len(set(covered.tolist())) > 3


def test_pictures_are_converted_to_the_channels_wanted(tmp_path):
    save(tmp_path / "grey.png", 77, (8, 8))
    files, labels, first = ["grey.png"], np.array([0]), np.array([0])
    colour, _ = FolderImages(tmp_path, files, labels, size=8).take(first)
    grey, _ = FolderImages(tmp_path, files, labels, size=8, channels=1).take(first)
    assert (colour.shape, np.unique(colour).tolist()) == ((1, 8, 8, 3), [77])
    assert (grey.shape, np.unique(grey).tolist()) == ((1, 8, 8, 1), [77])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_named_without_a_traceback_in_the_message(tmp_path, workers):
    save_noise(tmp_path / "good.png", 0)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes((tmp_path / "good.png").read_bytes()[:200])
    images = FolderImages(tmp_path, ["good.png", "damaged.png"], np.array([0, 1]), size=8, workers=workers)
    with pytest.raises(DataError, match="cannot be read as an image") as caught:
        list(images.batches(1))
    assert str(damaged) in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_other_unreadable_files_are_refused(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("text.jpg", "gone.png"):
        with pytest.raises(DataError, match=f"{name} cannot"):
            FolderImages(tmp_path, [name], np.array([0]), size=8).take(np.array([0]))
    with pytest.raises(DataError, match="1 or 3 channels; found 4"):
        FolderImages(tmp_path, [], np.zeros(0, np.int64), size=8, channels=4)


def test_subset_with_labels_and_an_empty_take(noise):
    part = noise.subset(np.array([3, 1]))
    assert part.labels.tolist() == [3, 1]
    assert np.array_equal(part.take(np.array([1]))[0], noise.take(np.array([1]))[0])
    assert noise.with_labels(np.full(11, 2)).labels.tolist() == [2] * 11
    assert noise.take(np.zeros(0, np.int64))[0].shape == (0, 8, 8, 3)
    assert list(noise.subset(np.zeros(0, np.int64)).batches(4)) == []


def test_fingerprint_depends_on_names_sizes_and_labels_but_not_on_the_place(tmp_path):
    def images(root: Path, names: list[str], labels: list[int]) -> FolderImages:
        return FolderImages(root, names, np.array(labels), size=8)

    for place in ("here", "there"):
        save(tmp_path / place / "a.png")
        save(tmp_path / place / "b.png")
    save(tmp_path / "larger" / "a.png", size=(240, 160))
    save(tmp_path / "larger" / "b.png")
    here = images(tmp_path / "here", ["a.png", "b.png"], [0, 1]).fingerprint()
    assert here == images(tmp_path / "there", ["a.png", "b.png"], [0, 1]).fingerprint()
    assert here != images(tmp_path / "here", ["b.png", "a.png"], [0, 1]).fingerprint()
    assert here != images(tmp_path / "here", ["a.png", "b.png"], [1, 0]).fingerprint()
    assert here != images(tmp_path / "larger", ["a.png", "b.png"], [0, 1]).fingerprint()
    with pytest.raises(DataError, match=r"missing.png cannot be read"):
        images(tmp_path / "here", ["missing.png"], [0]).fingerprint()


def animals(root: Path, per_class: int = 10) -> Path:
    for label, name in enumerate(("bird", "cat", "dog")):
        for index in range(per_class):
            save(root / name / f"{index:02}.png", (80 * label, 0, index))
    return root


def test_a_folder_of_classes_is_carved_in_three(tmp_path):
    data = load_data(f"folder:{animals(tmp_path / 'animals')}", image_size=16, validation=0.25, seed=1)
    assert (data.name, data.label_names, data.shape) == ("animals", ("bird", "cat", "dog"), (16, 16, 3))
    assert [len(data.train), len(data.validation), len(data.test)] == [18, 6, 6]
    assert data.test_carved
    files = [set(part.files.tolist()) for part in (data.train, data.validation, data.test)]
    assert len(files[0] | files[1] | files[2]) == 30
    pixels, labels = data.test.take(np.arange(6))
    assert pixels[:, 0, 0, 0].tolist() == (80 * labels).tolist()
    assert load_data(str(tmp_path / "animals"), image_size=16).fingerprint == data.fingerprint


def test_a_folder_that_is_decoded_as_grey_is_normalised_as_grey(tmp_path):
    root = animals(tmp_path / "animals")
    data = load_data(str(root), image_size=8, channels=1)
    pixels, _ = data.train.take(np.arange(len(data.train)))
    assert pixels.shape[1:] == (8, 8, 1)
    # The luminance of ImageNet's colours.
    assert data.preprocessing.mean == pytest.approx((0.299 * 0.485 + 0.587 * 0.456 + 0.114 * 0.406,), rel=1e-12)
    assert data.preprocessing.std == pytest.approx((0.299 * 0.229 + 0.587 * 0.224 + 0.114 * 0.225,), rel=1e-12)
    assert load_data(str(root), image_size=8).preprocessing.mean == (0.485, 0.456, 0.406)


def test_published_splits_of_a_folder_are_kept(tmp_path):
    animals(tmp_path / "train", 5)
    animals(tmp_path / "val", 2)
    animals(tmp_path / "test", 3)
    data = load_data(str(tmp_path), image_size=8)
    assert [len(data.train), len(data.validation), len(data.test)] == [15, 6, 9]
    assert (data.validation_seed, data.validation_count, data.test_carved) == (None, 6, False)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bus", "train"):
        for index in range(5):
            save(tmp_path / name / f"{index}.png")
    assert load_data(str(tmp_path), image_size=8).label_names == ("bus", "train")


def test_a_folder_to_evaluate_is_matched_by_class_name(tmp_path):
    save(tmp_path / "field" / "dog" / "0.png", (1, 1, 1))
    save(tmp_path / "field" / "bird" / "0.png", (2, 2, 2))
    names = ["dog", "cat", "bird"]
    images = load_images(str(tmp_path / "field"), height=8, width=8, channels=1, label_names=names)
    pixels, labels = images.take(np.arange(2))
    assert {(int(image[0, 0, 0]), int(label)) for image, label in zip(pixels, labels, strict=True)} == {(1, 0), (2, 2)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no folders, one per class"),
        (lambda root: (root / "cat").mkdir(), "classes without images.*cat"),
        (lambda root: animals(root) and (root / "eel").mkdir(), "classes without images.*eel"),
        (lambda root: save(root / "loose.png"), "no folders, one per class"),
    ],
)
def test_folders_without_images_are_refused(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        load_data(str(tmp_path), image_size=8)


def test_an_evaluation_folder_with_another_class_is_refused_and_another_size_fitted(tmp_path):
    save(tmp_path / "cats" / "0.png")
    with pytest.raises(DataError, match=r"folder cats, which is none of the classes; did you mean cat?"):
        load_images(str(tmp_path), height=8, width=8, channels=3, label_names=["cat", "dog"])
    assert load_images(str(tmp_path), height=8, width=9, channels=3, label_names=["cats"]).shape == (8, 9, 3)


def test_a_split_with_a_class_that_training_lacks_is_refused(tmp_path):
    animals(tmp_path / "train", 5)
    save(tmp_path / "val" / "eel" / "0.png")
    with pytest.raises(DataError, match="folder eel, which is none of the classes"):
        load_data(str(tmp_path), image_size=8)


def files_of(images) -> set[str]:
    return {str(images.path_of(index)) for index in range(len(images))}


def test_hidden_folders_and_files_are_no_classes_and_no_images(tmp_path):
    root = animals(tmp_path / "animals")
    expected = load_data(str(root), image_size=8)
    for hidden in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "cat/.ipynb_checkpoints", "cat/__MACOSX"):
        save(root / hidden / "00-checkpoint.png")
    (root / "cat" / "._00.png").write_bytes(b"what macOS puts beside a file")
    data = load_data(str(root), image_size=8)
    assert data.label_names == ("bird", "cat", "dog")
    assert len(data.train) + len(data.validation) + len(data.test) == 30
    assert data.fingerprint == expected.fingerprint
    evaluated = load_images(str(root), height=8, width=8, channels=3, label_names=["dog", "bird", "cat"])
    assert np.bincount(evaluated.labels).tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("Training", "valid", "Testing"),
        ("TRAIN", "Validation", "TEST"),
        ("training", "VALID", "testing"),
        ("Train", None, "test"),
    ],
)
def test_the_usual_names_of_parts_are_known_whatever_their_case(tmp_path, train, validation, test):
    animals(tmp_path / train, 5)
    animals(tmp_path / test, 3)
    if validation:
        animals(tmp_path / validation, 2)
    data = load_data(str(tmp_path), image_size=8, validation=0.2)
    assert data.label_names == ("bird", "cat", "dog")
    assert [len(data.train), len(data.validation), len(data.test)] == ([15, 6, 9] if validation else [12, 3, 9])
    assert data.test.root == tmp_path / test
    images = load_images(f"{tmp_path}:test", height=8, width=8, channels=3, label_names=data.label_names)
    assert files_of(images) == files_of(data.test)


def test_what_lies_beside_the_parts_is_left_aside_and_said(tmp_path):
    animals(tmp_path / "train", 5)
    animals(tmp_path / "test", 2)
    animals(tmp_path / "development", 2)
    data = load_data(str(tmp_path), image_size=8)
    assert (len(data.train) + len(data.validation), len(data.test), data.left_aside) == (15, 6, ("development",))
    assert "note: folders beside those of the parts are not read: development" in summary(data)


def test_a_folder_with_test_images_alone_is_evaluated_and_not_trained_on(tmp_path):
    animals(tmp_path / "test", 2)
    assert len(load_images(str(tmp_path), height=8, width=8, channels=3, label_names=["bird", "cat", "dog"])) == 6
    with pytest.raises(DataError, match="no training images; found only test"):
        load_data(str(tmp_path), image_size=8)


def test_a_class_that_is_called_like_a_part_is_evaluated_alone(tmp_path):
    save(tmp_path / "train" / "0.png")
    images = load_images(str(tmp_path), height=8, width=8, channels=3, label_names=["bus", "train"])
    assert images.labels.tolist() == [1]


def beside_classes(root: Path) -> None:
    animals(root)
    animals(root / "test", 2)


def twice(root: Path) -> None:
    for part in ("train", "val", "valid"):
        animals(root / part, 2)


def without_classes(root: Path) -> None:
    save(root / "train" / "cat.0.png")
    save(root / "test" / "1.png")


def a_level_too_many(root: Path) -> None:
    animals(root / "pictures" / "of animals")


def two_collections(root: Path) -> None:
    animals(root / "mine")
    animals(root / "yours")


def one_class_in_folders(root: Path) -> None:
    animals(root)
    save(root / "eel" / "2020" / "1.png")


def an_archive(root: Path) -> None:
    animals(root / "archive" / "train")
    animals(root / "archive" / "test")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            beside_classes,
            r"has test beside bird, cat, dog: .* put the classes to train on into a folder train",
        ),
        (twice, "has two folders of validation images, val and valid; keep one"),
        (without_classes, r"train has images and no folders, one per class; put each"),
        (a_level_too_many, r"only folders: pictures \(with of animals\); give the folder in which the classes are"),
        (two_collections, r"hold no images, only folders: mine, yours \(with bird, cat, dog\)"),
        (an_archive, r"only folders: archive \(with test, train\)"),
        (one_class_in_folders, r"only folders: eel \(with 2020\)"),
        (lambda root: save(root / "cat" / "0.png"), "has a single class, cat, and there is nothing to tell it from"),
    ],
)
def test_folders_that_are_not_one_folder_a_class_are_refused(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        load_data(str(tmp_path), image_size=8)


def test_a_folder_too_high_to_evaluate_names_the_right_one(tmp_path):
    animals(tmp_path / "pictures")
    with pytest.raises(DataError, match=rf"the classes lie in {tmp_path / 'pictures'}: give that folder"):
        load_images(str(tmp_path), height=8, width=8, channels=3, label_names=["bird", "cat", "dog"])


def test_links_to_what_they_lie_in_add_no_class_and_no_image(tmp_path):
    expected = load_data(str(animals(tmp_path / "animals")), image_size=8).fingerprint
    root = tmp_path / "animals"
    (root / "again").symlink_to(root)
    (root / "cat" / "up").symlink_to("..")
    (root / "cat" / "self").symlink_to(".")
    (root / "dog" / "nowhere").symlink_to("nowhere")
    (root / "dog" / "further up").symlink_to(tmp_path)
    data = load_data(str(root), image_size=8)
    assert data.label_names == ("bird", "cat", "dog")
    assert data.fingerprint == expected


def test_linked_images_are_read_and_each_once(tmp_path):
    stored = animals(tmp_path / "stored")
    for name in ("bird", "cat"):
        (tmp_path / "animals" / name).mkdir(parents=True)
        (tmp_path / "animals" / name / "linked").symlink_to(stored / name)
    save(tmp_path / "animals" / "bird" / "own.png")
    (tmp_path / "animals" / "bird" / "again").symlink_to(stored / "bird")
    (tmp_path / "animals" / "bird" / "one.png").symlink_to("own.png")
    (tmp_path / "animals" / "bird" / "03.png").symlink_to(stored / "bird" / "03.png")
    (tmp_path / "animals" / "cat" / "elsewhere.png").symlink_to(save(tmp_path / "elsewhere.png"))
    (tmp_path / "animals" / "cat" / "z elsewhere.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "animals" / "dog").symlink_to(stored / "dog")
    images = load_images(str(tmp_path / "animals"), height=8, width=8, channels=3, label_names=["bird", "cat", "dog"])
    assert np.bincount(images.labels).tolist() == [11, 11, 10]
    assert len({Path(file).resolve() for file in files_of(images)}) == 32


def test_a_link_to_an_image_that_is_gone_counts_as_an_image_that_cannot_be_read(tmp_path):
    root = animals(tmp_path / "animals")
    (root / "cat" / "gone.png").symlink_to("taken away.png")
    (root / "cat" / "moved.png").symlink_to("../dog/taken away.png")
    with pytest.raises(DataError, match=r"2 of 32 image files .*cannot be read:\n.*cat/(gone|moved).png \(No such"):
        load_checked(str(root), image_size=8)


def test_gif_files_are_read_as_the_service_reads_them(tmp_path):
    root = animals(tmp_path / "animals", 5)
    palette = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("RGB").quantize(64)
    palette.save(root / "cat" / "0.GIF")
    images = load_images(str(root), height=8, width=8, channels=3, label_names=["bird", "cat", "dog"])
    assert np.bincount(images.labels).tolist() == [5, 6, 5]
    assert images.path_of(5) == root / "cat" / "0.GIF"
    (pixels,), _ = images.take(np.array([5]))
    assert np.array_equal(pixels, np.asarray(palette.convert("RGB")))


def link_to_the_test_images(root: Path) -> None:
    (root / "train" / "cat" / "more").symlink_to(root / "test" / "cat")


def link_to_a_test_image(root: Path) -> None:
    (root / "train" / "cat" / "more.png").symlink_to(root / "test" / "cat" / "00.png")


def link_from_the_test_images(root: Path) -> None:
    (root / "test" / "cat" / "more.png").symlink_to(root / "train" / "cat" / "00.png")


def link_to_another_class(root: Path) -> None:
    (root / "train" / "cat" / "more").symlink_to("../dog")


def validation_is_test(root: Path) -> None:
    (root / "val").symlink_to("test")


@pytest.mark.parametrize(
    ("link", "first", "second"),
    [
        (link_to_the_test_images, "train/cat", "test/cat"),
        (link_to_a_test_image, "train/cat", "test/cat"),
        (link_from_the_test_images, "train/cat", "test/cat"),
        (link_to_another_class, "train/cat", "train/dog"),
        (validation_is_test, "val/bird", "test/bird"),
    ],
)
def test_images_of_two_classes_or_parts_are_refused(tmp_path, link, first, second):
    animals(tmp_path / "train", 4)
    animals(tmp_path / "test", 2)
    link(tmp_path)
    message = rf"{tmp_path / first} and {tmp_path / second} hold the same images \(.*\); .* take the link away"
    with pytest.raises(DataError, match=message):
        load_data(str(tmp_path), image_size=8)


def test_a_link_to_all_parts_never_brings_test_images_into_training(tmp_path):
    root = tmp_path / "animals"
    animals(root / "train", 5)
    animals(root / "test", 3)
    (root / "train" / "everything").symlink_to("..")
    (root / "train" / "cat" / "everything").symlink_to(root)
    data = load_data(str(root), image_size=8, validation=0.2)
    assert [len(data.train), len(data.validation), len(data.test)] == [12, 3, 9]
    assert all("/train/" in file and "everything" not in file for file in files_of(data.train))


def test_a_class_whose_name_is_no_text_is_refused(tmp_path):
    animals(tmp_path)
    try:
        save(tmp_path / os.fsdecode(b"caf\xe9") / "0.png")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    with pytest.raises(DataError, match=r"classes whose names are no text in UTF-8: 'caf\\udce9'; rename them"):
        load_data(str(tmp_path), image_size=8)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    animals(tmp_path)
    scan = os.scandir

    def refuse(place):
        if str(place).endswith("cat"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cat cannot be read \(Permission denied\)"):
        load_data(str(tmp_path), image_size=8)


def tiny_imagenet(root: Path) -> Path:
    for label, wnid in enumerate(("n01", "n02")):
        for index in range(10):
            save(root / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", (200 * label,) * 3, (64, 64))
    lines = ["val_0.JPEG\tn02\t0\t0\t62\t63", "val_1.JPEG\tn01\t1\t2\t30\t40"]
    for index, value in enumerate((1, 0)):
        save(root / "val" / "images" / f"val_{index}.JPEG", (200 * value,) * 3, (64, 64))
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return root


def test_tiny_imagenet_layout(tmp_path):
    data = load_data(f"tiny-imagenet:{tiny_imagenet(tmp_path)}")
    assert (data.label_names, data.shape) == (("n01", "n02"), (64, 64, 3))
    assert [len(data.train), len(data.validation), len(data.test)] == [18, 2, 2]
    assert data.augmentation == Augmentation(padding=4, flip=True)
    assert data.preprocessing.mean == (0.4802, 0.4481, 0.3975)
    pixels, labels = data.test.take(np.arange(2))
    assert labels.tolist() == [1, 0]
    assert pixels[:, 0, 0, 0].tolist() == [200, 0]


def test_tiny_imagenet_with_an_unknown_class_in_its_annotations_is_refused(tmp_path):
    tiny_imagenet(tmp_path)
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn03\t0\t0\t62\t63\n")
    with pytest.raises(DataError, match=r"line 1 of .*val_annotations.txt"):
        load_data(f"tiny-imagenet:{tmp_path}")
    (tmp_path / "val" / "val_annotations.txt").write_bytes(b"val_0.JPEG\tn01\t\xe9\n")
    with pytest.raises(DataError, match=r"val_annotations.txt cannot be read as text in UTF-8 \(.*0xe9"):
        load_data(f"tiny-imagenet:{tmp_path}")


def test_imagenet_layout(tmp_path):
    for split, count in (("train", 4), ("val", 1)):
        for wnid in ("n01", "n02"):
            for index in range(count):
                save(tmp_path / split / wnid / f"{index}.JPEG", size=(40, 30))
    data = load_data(f"imagenet:{tmp_path}")
    assert data.shape == (224, 224, 3)
    assert [len(data.train), len(data.validation), len(data.test)] == [6, 2, 2]
    assert data.augmentation == CROP
    assert data.preprocessing.std == (0.229, 0.224, 0.225)
    assert next(iter(data.train.batches(2, generator=seeded(), augmentation=CROP)))[0].shape == (2, 224, 224, 3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("imagenet", "found no path; write imagenet:PATH"),
        ("tiny-imagenet:{root}/nowhere", "found none at"),
        ("imagenet:{root}", "has no folder train; found nothing"),
    ],
)
def test_missing_folders_are_refused(tmp_path, spec, message):
    with pytest.raises(DataError, match=message):
        load_data(spec.format(root=tmp_path))
