"""Images in memory: order, augmentation, preprocessing, splits, label noise."""

from __future__ import annotations

import numpy as np
import pytest

from subspace_serve.data import Augmentation, MemoryImages, Preprocessing, label_noise, load_data
from subspace_serve.data.drawing import carve
from subspace_serve.data.preprocessing import measure_preprocessing
from subspace_serve.data.views import RepeatedImages, resized, with_channels
from subspace_serve.errors import DataError


def numbered(count: int, height: int = 4, width: int = 5, channels: int = 3) -> MemoryImages:
    """Images whose pixels are all different, from 1 on (0 is what padding brings), labelled by their place."""
    pixels = (np.arange(count * height * width * channels) % 255 + 1).astype(np.uint8)
    return MemoryImages(pixels.reshape(count, height, width, channels), np.arange(count))


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_batches_without_generator_keep_the_order_and_the_smaller_last_batch():
    images = numbered(7)
    batches = list(images.batches(3))
    assert [labels.tolist() for _, labels in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert np.array_equal(np.concatenate([pixels for pixels, _ in batches]), images.pixels)
    assert {pixels.dtype for pixels, _ in batches} == {np.dtype(np.uint8)}


def test_drop_last_leaves_out_only_a_smaller_batch():
    assert [len(labels) for _, labels in numbered(7).batches(3, drop_last=True)] == [3, 3]
    assert [len(labels) for _, labels in numbered(6).batches(3, drop_last=True)] == [3, 3]


def test_shuffled_batches_hold_every_image_once_with_its_label():
    images = numbered(50)
    batches = list(images.batches(8, generator=seeded()))
    labels = np.concatenate([labels for _, labels in batches])
    assert labels.tolist() != list(range(50))
    assert sorted(labels.tolist()) == list(range(50))
    assert np.array_equal(np.concatenate([pixels for pixels, _ in batches]), images.pixels[labels])


def test_the_same_generator_state_gives_the_same_bytes_and_the_next_state_others():
    images = numbered(50)
    augmentation = Augmentation(padding=2, flip=True)

    def epoch(generator: np.random.Generator) -> np.ndarray:
        batches = images.batches(8, generator=generator, augmentation=augmentation)
        return np.concatenate([pixels for pixels, _ in batches])

    generator = seeded()
    first, second = epoch(generator), epoch(generator)
    assert np.array_equal(first, epoch(seeded()))
    assert not np.array_equal(first, second)


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()
    list(numbered(20).batches(4, generator=seeded(), augmentation=Augmentation(padding=1, flip=True)))
    assert all(map(np.array_equal, np.random.get_state(), before))


def test_every_augmented_image_is_a_crop_of_its_padded_self_perhaps_mirrored():
    images = numbered(200, height=4, width=5, channels=3)
    padded = np.zeros((200, 8, 9, 3), np.uint8)
    padded[:, 2:6, 2:7] = images.pixels
    batches = images.batches(32, generator=seeded(), augmentation=Augmentation(padding=2, flip=True))
    seen = set()
    for pixels, labels in batches:
        for image, label in zip(pixels, labels.tolist(), strict=True):
            found = [
                (top, left, mirrored)
                for top in range(5)
                for left in range(5)
                for mirrored in (False, True)
                if np.array_equal(image[:, ::-1] if mirrored else image, padded[label, top : top + 4, left : left + 5])
            ]
            assert len(found) == 1, f"image {label} is no crop of itself"
            seen.update(found)
    assert {place[0] for place in seen} == set(range(5))
    assert {place[1] for place in seen} == set(range(5))
    assert {place[2] for place in seen} == {False, True}
    assert len({place[:2] for place in seen}) == 25


def test_flips_are_half_of_the_images():
    images = numbered(2000, height=1, width=2, channels=1)
    pixels, labels = next(iter(images.batches(2000, generator=seeded(), augmentation=Augmentation(flip=True))))
    mirrored = (pixels != images.pixels[labels]).all(axis=(1, 2, 3))
    assert 900 < int(mirrored.sum()) < 1100


def test_augmentation_that_is_off_changes_nothing():
    images = numbered(10)
    pixels, _ = next(iter(images.batches(10, augmentation=Augmentation())))
    assert np.array_equal(pixels, images.pixels)


def test_resized_crops_are_refused_in_memory():
    with pytest.raises(DataError, match="resized crops are for folders"):
        next(iter(numbered(2).batches(2, augmentation=Augmentation(resized_crop=True))))


def test_subset_take_and_with_labels():
    images = numbered(6)
    part = images.subset(np.array([4, 1]))
    assert part.labels.tolist() == [4, 1]
    pixels, labels = images.take(np.array([5, 0]))
    assert labels.tolist() == [5, 0]
    assert np.array_equal(pixels, images.pixels[[5, 0]])
    relabelled = images.with_labels(np.zeros(6, np.int64))
    assert relabelled.labels.tolist() == [0] * 6
    assert images.labels.tolist() == list(range(6))
    assert relabelled.shape == (4, 5, 3)


def test_resized_brings_images_to_another_size():
    flat = MemoryImages(np.full((3, 4, 4, 1), 77, np.uint8), np.zeros(3, np.int64))
    larger = resized(flat, 6, 9)
    assert larger.shape == (6, 9, 1)
    assert np.unique(larger.pixels).tolist() == [77]
    assert resized(flat, 4, 4) is flat


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (np.zeros((2, 4, 4, 1), np.float32), np.zeros(2, np.int64), "must be uint8.*found float32"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64), r"shape \(2, 4, 4\)"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.float32), "labels must be integers; found float32"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.array([True, False]), "must be integers; found bool"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3, np.int64), r"shape \(2,\); found.*\(3,\)"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros((2, 10), np.int64), r"found shape \(2, 10\)"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.array([0, -1]), "count from 0; found -1"),
    ],
)
def test_wrong_pixels_and_labels_are_refused(pixels, labels, message):
    with pytest.raises(DataError, match=message):
        MemoryImages(pixels, labels)


def test_a_batch_size_of_zero_is_refused():
    with pytest.raises(DataError, match="at least 1; found 0"):
        list(numbered(2).batches(0))


def test_fingerprint_depends_on_pixels_labels_and_shape():
    images = numbered(6)
    changed = images.pixels.copy()
    changed[3, 0, 0, 0] += 1
    prints = {
        images.fingerprint(),
        MemoryImages(changed, images.labels).fingerprint(),
        images.with_labels(images.labels[::-1]).fingerprint(),
        MemoryImages(images.pixels.reshape(6, 5, 4, 3), images.labels).fingerprint(),
    }
    assert len(prints) == 4
    assert images.fingerprint() == "5987d28e726d1b46ee054cc7a918d62011ab08631b399f283a744a401b6591e5"


def test_shared_images_are_found_one_by_one_whatever_their_labels_and_order():
    images, others = numbered(9, channels=1), numbered(30, channels=1).subset(np.array([25, 7, 2, 7]))
    assert np.flatnonzero(images.among(others.with_labels(np.zeros(4, np.int64)))).tolist() == [2, 7]
    assert not images.among(numbered(9, 5, 4, 1)).any()  # the same bytes in another shape
    assert not images.among(others.subset(np.arange(0))).any()


def test_measured_preprocessing_equals_the_plain_statistics():
    images = seeded().integers(0, 256, (1500, 3, 4, 2), dtype=np.uint8)
    measured = measure_preprocessing(images)
    scaled = images / 255
    assert measured.mean == pytest.approx(scaled.mean(axis=(0, 1, 2)).tolist(), rel=1e-12)
    assert measured.std == pytest.approx(scaled.std(axis=(0, 1, 2)).tolist(), rel=1e-12)


def test_a_channel_that_never_changes_can_be_normalised():
    measured = measure_preprocessing(np.full((2, 3, 3, 1), 51, np.uint8))
    assert measured.mean == pytest.approx((0.2,))
    assert measured.std == pytest.approx((1 / 255,))


def test_preprocessing_round_trips_through_json():
    preprocessing = Preprocessing(mean=(0.1, 0.2), std=(0.3, 0.4))
    assert preprocessing.to_json() == {"mean": [0.1, 0.2], "std": [0.3, 0.4]}
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"mean": [0.5]}, "must hold the lists"),
        ({"mean": ["x"], "std": [1]}, "must hold the lists"),
        ({"mean": [0.5], "std": [0.1, 0.2]}, "found 1 and 2"),
        ({"mean": [], "std": []}, "found 0 and 0"),
        ({"mean": [0.5], "std": [0.0]}, "positive numbers"),
        ({"mean": [0.5], "std": [float("nan")]}, "positive numbers"),
    ],
)
def test_wrong_preprocessing_is_refused(document, message):
    with pytest.raises(DataError, match=message):
        Preprocessing.from_json(document)


def test_carve_takes_the_share_of_every_class():
    labels = np.array([0] * 50 + [1] * 30 + [2] * 20)
    rest, part = carve(labels, 10, seed=0)
    assert np.bincount(labels[part]).tolist() == [5, 3, 2]
    assert sorted([*rest.tolist(), *part.tolist()]) == list(range(100))
    assert part.tolist() == sorted(part.tolist())


def test_carve_hands_remainders_to_the_largest():
    # 10 of 35 + 33 + 32: quotas 3.5, 3.3 and 3.2.
    labels = np.array([0] * 35 + [1] * 33 + [2] * 32)
    _, part = carve(labels, 10, seed=0)
    assert np.bincount(labels[part]).tolist() == [4, 3, 3]


def test_carve_keeps_every_class_on_both_sides_where_it_has_two():
    labels = np.array([0] * 40 + [1, 1] + [2])
    rest, part = carve(labels, 4, seed=0)
    assert np.bincount(labels[part], minlength=3).tolist() == [3, 1, 0]
    assert np.bincount(labels[rest], minlength=3).tolist() == [37, 1, 1]


def test_carve_is_decided_by_the_seed():
    labels = np.tile(np.arange(10), 10)
    assert np.array_equal(carve(labels, 10, seed=3)[1], carve(labels, 10, seed=3)[1])
    assert not np.array_equal(carve(labels, 10, seed=3)[1], carve(labels, 10, seed=4)[1])


def test_carve_of_nothing_leaves_everything():
    rest, part = carve(np.arange(3), 0, seed=0)
    assert (rest.tolist(), part.tolist()) == ([0, 1, 2], [])


def test_label_noise_replaces_a_fraction_with_uniform_labels():
    labels = np.zeros(10_000, np.int64)
    noisy = label_noise(labels, 0.4, classes=10, seed=1)
    counts = np.bincount(noisy, minlength=10)
    # 4000 labels are drawn, 400 of each class expected; the true class keeps its 6000.
    assert 6300 < counts[0] < 6500
    assert counts[1:].min() > 320
    assert counts[1:].max() < 480
    assert np.unique(labels).tolist() == [0]


def test_label_noise_is_fixed_by_the_seed():
    labels = np.tile(np.arange(10), 20)
    assert np.array_equal(label_noise(labels, 0.5, 10, seed=1), label_noise(labels, 0.5, 10, seed=1))
    assert not np.array_equal(label_noise(labels, 0.5, 10, seed=1), label_noise(labels, 0.5, 10, seed=2))
    assert np.array_equal(label_noise(labels, 0.0, 10, seed=1), labels)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_label_noise_outside_a_fraction_is_refused(fraction):
    with pytest.raises(DataError, match="give a number in"):
        label_noise(np.zeros(3, np.int64), fraction, 2, seed=0)


def test_grey_images_are_repeated_in_memory_and_as_they_are_read():
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 1)
    grey = MemoryImages(pixels, np.array([0, 1]))
    for images in (with_channels(grey, 3), RepeatedImages(grey, 3)):
        assert images.shape == (3, 3, 3)
        found, labels = next(iter(images.subset(np.array([1])).batches(4)))
        np.testing.assert_array_equal(found, np.stack([pixels[1:, ..., 0]] * 3, axis=-1))
        assert labels.tolist() == [1]
    assert with_channels(grey, 1) is grey
    with pytest.raises(DataError, match="have 3 channels and 1 are wanted"):
        with_channels(with_channels(grey, 3), 1)


def test_a_grey_set_is_loaded_with_three_channels_and_its_normalisation_repeated():
    grey, repeated = load_data("digits"), load_data("digits", channels=3)
    assert repeated.shape == (*grey.shape[:2], 3)
    assert repeated.preprocessing.mean == pytest.approx(grey.preprocessing.mean * 3)
    assert repeated.fingerprint == grey.fingerprint
    np.testing.assert_array_equal(repeated.test.take(np.arange(3))[0][..., 2], grey.test.take(np.arange(3))[0][..., 0])
