"""Statistics of a whole subspace: exact at knots, near between them, bound to their checkpoint, mixed by number."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors_files import unknown_to_numpy

from subspace_serve.errors import CalibrationError, CheckpointError, GeometryError
from subspace_serve.network.mixing import distances, mixed, sampling_noise
from subspace_serve.network.network import Network
from subspace_serve.network.statistics_set import (
    KnownStatistics,
    StatisticsSet,
    compute_statistics,
    even_batches,
    interpolation_error,
)
from subspace_serve.run.opened import OpenRun

SHA256 = "a" * 64


@pytest.fixture(scope="module")
def network(line_run: Path) -> Network:
    return OpenRun(line_run).network


@pytest.fixture(scope="module")
def pixels(line_run: Path) -> np.ndarray:
    return OpenRun(line_run).data.train.take(np.arange(256))[0]


@pytest.fixture(scope="module")
def training(network: Network, pixels: np.ndarray) -> StatisticsSet:
    return compute_statistics(network, lambda: even_batches(pixels))


def test_statistics_are_exact_at_knots(network: Network, pixels: np.ndarray, training: StatisticsSet) -> None:
    assert len(training.knots) == 21
    assert training.images == 256
    for alpha in (0.0, 0.35, 1.0):
        exact = network.recalibrate(even_batches(pixels), alpha=alpha)
        for degree in (1, 2):
            found = training.with_degree(degree).at(alpha)
            np.testing.assert_allclose(found.values, exact.values, rtol=1e-6, atol=1e-7)
            assert found.images == 256


def test_outside_the_line_nothing_is_known_unless_there_are_no_statistics(
    network: Network, training: StatisticsSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownStatistics(training, {"data": "digits:train"})
    weights = network.weights(1.05, extrapolate=True)
    with pytest.raises(CalibrationError, match=r"alpha 1\.05 lies outside the subspace.*--calibrate-on SPEC"):
        known.statistics(network, 1.05, weights)
    np.testing.assert_array_equal(known.statistics(network, 1.0, weights).values, training.at(1.0).values)
    monkeypatch.setattr(network.skeleton, "batchnorms", [])
    np.testing.assert_array_equal(known.statistics(network, 1.05, weights).values, training.at(0.0).values)


def test_between_knots_they_are_near_and_variances_are_nearer_by_a_quadratic(
    network: Network, pixels: np.ndarray, training: StatisticsSet
) -> None:
    mask = training.variances
    errors = {1: 0.0, 2: 0.0}
    for alpha in (0.12, 0.475, 0.93):
        exact = network.recalibrate(even_batches(pixels), alpha=alpha).values
        for degree in errors:
            found = training.with_degree(degree).at(alpha).values
            np.testing.assert_allclose(found[mask], exact[mask], rtol=0.15)
            errors[degree] += float(np.square(found[mask] / exact[mask] - 1).sum())
    assert errors[2] < errors[1] / 2
    found = {
        degree: interpolation_error(
            network, training.with_degree(degree), lambda: even_batches(pixels), pixels, places=(0.12, 0.475, 0.93)
        )
        for degree in (1, 2)
    }
    assert found[2]["logits"] < found[1]["logits"] < 0.1
    assert found[2]["flips"] <= 0.01
    assert "accuracy" not in found[2]


def test_a_place_outside_is_refused(training: StatisticsSet) -> None:
    with pytest.raises(GeometryError, match="outside"):
        training.at(1.01)


def test_only_the_knots_that_are_asked_for(network: Network, pixels: np.ndarray, training: StatisticsSet) -> None:
    some = compute_statistics(network, lambda: even_batches(pixels), only=[0.5])
    assert np.array_equal(some.at(0.5).values, training.at(0.5).values)
    assert np.array_equal(some.at(0.0).values, network.skeleton.default_statistics())


def test_batches_are_nearly_equal() -> None:
    assert [len(batch) for batch in even_batches(np.zeros((130, 1)))] == [65, 65]
    assert [len(batch) for batch in even_batches(np.zeros((8, 1)))] == [8]
    assert [len(batch) for batch in even_batches(np.zeros((384, 1)))] == [128, 128, 128]


def test_a_set_is_read_as_it_was_written(network: Network, training: StatisticsSet, tmp_path: Path) -> None:
    file = tmp_path / "statistics.safetensors"
    noisy = replace(training, noise=np.arange(len(network.skeleton.batchnorms), dtype=np.float32), degree=2)
    noisy.save(file, SHA256)
    again = StatisticsSet.load(file, network.geometry, network.skeleton, SHA256)
    assert (again.knots, again.images, again.degree) == (noisy.knots, 256, 2)
    assert np.array_equal(again.values, noisy.values)
    assert np.array_equal(again.noise, noisy.noise)


def test_what_is_not_a_set_of_this_checkpoint_is_refused(
    network: Network, training: StatisticsSet, tmp_path: Path
) -> None:
    file = tmp_path / "statistics.safetensors"
    training.save(file, SHA256)
    with pytest.raises(CheckpointError, match="of another checkpoint"):
        StatisticsSet.load(file, network.geometry, network.skeleton, "b" * 64)
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="no statistics that can be read"):
        StatisticsSet.load(file, network.geometry, network.skeleton, SHA256)
    file.write_bytes(whole)
    unknown_to_numpy(file, "statistics")
    with pytest.raises(CheckpointError, match="no statistics that can be read"):
        StatisticsSet.load(file, network.geometry, network.skeleton, SHA256)
    replace(training, images=math.inf).save(file, SHA256)
    with pytest.raises(CheckpointError, match="no statistics that can be read"):
        StatisticsSet.load(file, network.geometry, network.skeleton, SHA256)
    for values in (training.values[:, :-1], training.values.astype(np.float64), training.values * np.nan):
        replace(training, values=values).save(file, SHA256)
        with pytest.raises(CheckpointError, match="expected finite float32 of shape"):
            StatisticsSet.load(file, network.geometry, network.skeleton, SHA256)


def test_few_images_that_differ_by_chance_count_little_and_a_shift_counts(
    network: Network, pixels: np.ndarray, training: StatisticsSet
) -> None:
    known = replace(training, noise=sampling_noise(network, training, pixels))
    skeleton = network.skeleton
    assert known.noise is not None
    assert (known.noise > 0).all()
    few = compute_statistics(network, lambda: [pixels[:16]], only=[0.5])
    plain, shares = mixed(few, training, skeleton, prior=48)
    np.testing.assert_allclose(shares, 16 / 64)
    middle = training.lattice.middle
    np.testing.assert_allclose(
        plain.values[middle], 0.25 * few.values[middle] + 0.75 * training.values[middle], rtol=1e-6, atol=1e-7
    )
    _, by_chance = mixed(few, known, skeleton, prior=48)
    inverted = compute_statistics(network, lambda: [255 - pixels[:16]], only=[0.5])
    _, shifted = mixed(inverted, known, skeleton, prior=48)
    assert shifted[0] > 0.9
    assert shifted.mean() > by_chance.mean()
    own, all_of_it = mixed(few, training, skeleton, prior=0)
    assert np.array_equal(own.values, few.values)
    assert (all_of_it == 1).all()


def test_the_distance_is_that_of_means_and_of_variances(network: Network) -> None:
    reference = network.skeleton.default_statistics()
    row = reference.copy()
    first, second, *others = network.skeleton.batchnorms
    row[first.mean.where] += 2
    row[second.variance.where] = np.e
    found = distances(network.skeleton, row, reference)
    assert found[:2] == pytest.approx([4, 0.5], rel=1e-4)
    assert found[2:] == pytest.approx([0] * len(others))
