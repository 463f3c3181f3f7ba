"""Which training images and labels a run uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trainer_runs import TINY

from subspace_serve.data import label_noise
from subspace_serve.errors import TrainingError
from trainer.config import TrainingConfig
from trainer.preparation import prepared_data
from trainer.training import train


def test_training_images_are_drawn_class_by_class_whatever_the_seed() -> None:
    config = TrainingConfig(**TINY, train_images=100)
    data = prepared_data(config, download=False)
    everything = prepared_data(TrainingConfig(**TINY), download=False)
    assert np.bincount(data.train.labels).tolist() == [10] * 10
    pixels, labels = data.train.take(np.arange(100))
    whole, _ = everything.train.take(np.arange(len(everything.train)))
    assert {image.tobytes() for image in pixels} <= {image.tobytes() for image in whole}
    assert np.array_equal(data.validation.labels, everything.validation.labels)
    again, same_labels = prepared_data(
        TrainingConfig(**TINY, train_images=100, seed=7, subspace="standard"), download=False
    ).train.take(np.arange(100))
    assert np.array_equal(pixels, again)
    assert np.array_equal(labels, same_labels)
    other, _ = prepared_data(TrainingConfig(**TINY, train_images=100, data_seed=1), download=False).train.take(
        np.arange(100)
    )
    assert not np.array_equal(pixels, other)


def test_labels_are_noisy_among_the_training_images_that_are_used() -> None:
    clean, noisy = (
        prepared_data(TrainingConfig(**TINY, train_images=200, label_noise=noise, data_seed=3), download=False).train
        for noise in (0.0, 0.5)
    )
    assert np.array_equal(clean.take(np.arange(200))[0], noisy.take(np.arange(200))[0])
    assert np.array_equal(noisy.labels, label_noise(clean.labels, 0.5, 10, 3))
    assert 70 < (noisy.labels != clean.labels).sum() < 110


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1294, "has 1293 training images; 1294 are wanted"),
        # Each class gives at least one image and keeps at least one.
        (5, "5 training images cannot be drawn class by class from digits: it comes to 10; give --train-images 10"),
        (1290, "comes to 1283"),
    ],
)
def test_as_many_training_images_as_asked_or_none(count: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        train(TrainingConfig(**TINY, train_images=count), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [10, 1283, 1293])
def test_the_least_and_the_most_training_images(count: int) -> None:
    assert len(prepared_data(TrainingConfig(**TINY, train_images=count), download=False).train) == count
