"""The drift alarm's mathematics: uniform p-values, bets of mean 1, and few false alarms; and what is counted for it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from subspace_serve.bundle.drift import DriftReference
from subspace_serve.drift import (
    BETS,
    BINS,
    OF_POINTS,
    STATISTICS,
    Stream,
    bet,
    bins_of,
    counts_of,
    log_bets,
    log_starting_shares,
    mean_intensities,
    p_values,
    values_of,
)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sequence(pool: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Draw (1, count) bins of a pool, with replacement."""
    return random(seed).choice(pool, count)[np.newaxis]


# What is seen of an image


def test_the_statistics_of_answers_and_their_bins():
    probabilities = np.array([[0.5, 0.5], [0.0, 1.0], [1e-9, 1 - 1e-9]])
    values = values_of(probabilities, np.array([0.0, 0.25, 1.0]), np.array([0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(values, [[0.5, 1, 1 - 1e-9], [0, 0.25, 1], [0, 0.5, 1]])
    np.testing.assert_array_equal(values_of(probabilities, None, values[2]), values[[0, 2]])
    bins = bins_of(values)
    assert bins[2].tolist() == [0, 128, 255]
    assert bins[1].tolist() == [0, int((np.log(1 / 3) + 16) * 8), 255]
    assert bins[0].tolist() == [128, 255, 255]
    assert bins_of(np.array([[np.nan, -np.inf, np.inf], [np.nan, -1, 2]])).tolist() == [[0, 0, 255], [0, 0, 255]]


def test_images_of_every_format_have_the_same_mean_whatever_their_size():
    for shape in ((4, 5, 3), (16, 16, 1), (28, 28, 1)):
        pixels = random().integers(0, 256, (7, *shape), dtype=np.uint8)
        step = 2 if shape[0] == 28 else 1
        expected = pixels[:, ::step, ::step].reshape(7, -1).mean(axis=1) / 255
        np.testing.assert_allclose(mean_intensities(pixels), expected)
        tensors = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
        np.testing.assert_allclose(mean_intensities(tensors), expected, atol=1e-6)
    large = random().integers(0, 256, (2, 224, 100, 3), dtype=np.uint8)
    np.testing.assert_allclose(mean_intensities(large), large[:, ::14, ::7].mean(axis=(1, 2, 3)) / 255)


# p-values


@pytest.mark.parametrize("pool", [np.arange(BINS), np.array([3, 3, 3, 3, 200]), np.array([7])])
@pytest.mark.parametrize("calibration", [0, 300])
def test_p_values_are_uniform_and_independent_whatever_the_ties(pool, calibration):
    drawn = sequence(pool, calibration + 4000)
    counts = counts_of(drawn[:, :calibration]) if calibration else np.zeros((1, BINS), np.int64)
    p = p_values(counts, drawn[:, calibration:], random(1).random((1, 4000)))[0]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert abs(stats.spearmanr(p[:-1], p[1:]).statistic) < 4 / np.sqrt(len(p))


def test_a_p_value_is_the_rank_among_all_before_it():
    calibration, drawn = sequence(np.arange(20), 50)[0], sequence(np.arange(20), 100, 1)
    uniform = random(2).random((1, 100))
    found = p_values(counts_of(calibration[np.newaxis]), drawn, uniform)[0]
    for index, own in enumerate(drawn[0]):
        before = np.append(calibration, drawn[0, :index])
        rank = (before < own).sum() + uniform[0, index] * ((before == own).sum() + 1)
        assert found[index] == pytest.approx(rank / (len(before) + 1))


# Bets


@pytest.mark.parametrize("index", range(BETS))
def test_the_mean_of_every_bet_is_1(index):
    mean, error = integrate.quad(
        lambda p: np.exp(log_bets(np.array([p]))[index, 0]), 0, 1, points=[0, 0.5, 1], limit=200
    )
    assert mean == pytest.approx(1, abs=2e-3 + error)


def test_every_image_has_a_share_of_the_stake_and_all_shares_sum_to_1():
    numbers = np.arange(1, 10_001)
    shares = np.exp(log_starting_shares(numbers))
    np.testing.assert_allclose(shares, 1 / np.log2(numbers + 1) - 1 / np.log2(numbers + 2), rtol=1e-9)
    assert shares.sum() == pytest.approx(1 - 1 / np.log2(10_002))
    assert np.exp(log_starting_shares(np.array([10**15]))) == pytest.approx(np.log(2) / 1e15 / np.log(1e15) ** 2)


def test_wealth_is_what_the_recursion_says_however_the_images_arrive():
    p = random().random((2, 50))
    stakes, wealth = np.zeros((2, BETS)), []
    for index in range(50):
        share = 1 / np.log2(index + 2) - 1 / np.log2(index + 3)
        stakes = np.exp(log_bets(p)[:, :, index]) * (stakes + share)
        wealth.append(stakes.mean(axis=1) + 1 / np.log2(index + 3))
    start = np.full((2, BETS), -np.inf)
    found, path = bet(start, p, 0)
    np.testing.assert_allclose(np.exp(found), stakes)
    np.testing.assert_allclose(np.exp(path), np.array(wealth).T)
    half, first = bet(start, p[:, :20], 0)
    again, second = bet(half, p[:, 20:], 20)
    np.testing.assert_allclose(again, found)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), path)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_statistics_share_one_stake(number):
    # The union bound of the 5 % needs it: each begins with 1 / S, and still has a share of that.
    counts = counts_of(bins_of(random().random((number, 50))))
    bins = bins_of(random(1).random((number, 20)))
    stream = Stream.begin(counts)
    assert np.exp(stream.wealth).sum() == pytest.approx(1)
    stream.add(bins, random(2))
    uniform = random(2).random((number, 20))
    _, alone = bet(np.full((number, BETS), -np.inf), p_values(counts, bins, uniform), 0)
    np.testing.assert_allclose(np.exp(stream.wealth), np.exp(alone[:, -1]) / number)
    np.testing.assert_allclose(np.exp(stream.highest), np.maximum(1, np.exp(alone).max(axis=1)) / number)


@pytest.mark.parametrize("images", [0, 1, 30])
def test_without_a_change_the_next_images_wealth_is_on_average_the_present_one(images):
    start = np.full(BETS, -np.inf)
    stakes, path = bet(start, random(3).random(images), 0) if images else (start, np.zeros(1))

    def wealth(p: float) -> float:
        return float(np.exp(bet(stakes, np.array([p]), images)[1][0]))

    # By quadrature, since the mean of a sample is that of its few largest.
    mean, error = integrate.quad(wealth, 0, 1, points=[0, 0.5, 1], limit=200)
    assert mean == pytest.approx(np.exp(path[-1]), rel=2e-3 + error)


# Streams


def test_few_streams_without_a_change_raise_an_alarm_even_with_few_calibration_images():
    alarms = 0
    for seed in range(100):
        own = random(seed)
        stream = Stream.begin(counts_of(bins_of(own.beta(5, 2, (3, 20)))))
        stream.add(bins_of(own.beta(5, 2, (3, 1000))), own)
        alarms += stream.alarm is not None
        assert stream.images == 1000
        assert (stream.alarm is not None) == (stream.p_value <= 0.05)
    assert stats.binomtest(alarms, 100, 0.05, alternative="greater").pvalue > 0.05


@pytest.mark.parametrize("before", [0, 1000])
def test_a_change_raises_the_alarm_soon_and_its_image_stays_what_it_was(before):
    own = random(before)
    stream = Stream.begin(counts_of(bins_of(own.beta(5, 2, (2, 1000)))))
    stream.add(bins_of(own.beta(5, 2, (2, before))), own)
    assert stream.alarm is None
    stream.add(bins_of(own.beta(2, 5, (2, 60))), own)
    alarm = stream.alarm
    assert before < alarm < before + 60
    assert stream.p_value < 1e-3
    highest = stream.highest.copy()
    stream.add(bins_of(own.beta(5, 2, (2, 3000))), own)
    assert stream.alarm == alarm
    assert (stream.highest >= highest).all()
    assert stream.counts.sum() == 2 * (1000 + before + 3060)


def test_one_statistic_alone_raises_the_alarm_in_either_direction_and_where_nothing_varies_any_more():
    for change in (lambda values: values * 0.5, lambda values: values**0.2, lambda values: np.full_like(values, 0.7)):
        own = random()
        stream = Stream.begin(counts_of(bins_of(own.beta(5, 2, (3, 2000)))))
        values = own.beta(5, 2, (3, 200))
        values[2] = change(values[2])
        stream.add(bins_of(values), own)
        assert stream.alarm is not None
        assert stream.wealth.argmax() == 2
        assert (stream.highest[:2] < np.log(20)).all()


def test_without_calibration_images_changes_within_the_stream_are_seen():
    own = random()
    stream = Stream.begin(np.zeros((2, BINS), np.int64))
    assert stream.p_value == 1
    stream.add(bins_of(own.beta(2, 5, (2, 500))), own)
    assert stream.alarm is None
    stream.add(bins_of(own.beta(5, 2, (2, 100))), own)
    assert stream.alarm > 500


def test_a_long_change_overflows_nothing():
    own = random()
    stream = Stream.begin(counts_of(bins_of(own.beta(2, 5, (2, 50_000)))))
    stream.add(np.full((2, 5000), 255), own)
    assert np.isfinite(stream.wealth).all()
    assert stream.wealth.max() > 1000
    assert stream.p_value == 0


# What a bundle keeps


def test_a_record_counts_images_by_statistic():
    values = np.array([[0.5, 0.5, 0.9], [0.1, 0.2, 0.2]])
    record = DriftReference.of(values, "x")
    assert (record.data, record.count, tuple(record.bins)) == ("x", 3, OF_POINTS)
    assert [record.bins["max_probability"][bin] for bin in (128, int((np.log(9) + 16) * 8))] == [2, 1]
    assert record.bins["mean_intensity"][51] == 2
    assert tuple(DriftReference.of(np.zeros((3, 4)), "x").bins) == STATISTICS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 4}, "the bins of max_probability hold 3 images, not the 4 that there are"),
        ({"bins": {"mood": (3,) + (0,) * (BINS - 1)}}, "bins.mood"),
        ({"bins": {"mean_intensity": (3,)}}, "at least 256 items"),
        ({"bins": {"mean_intensity": (4, -1) + (0,) * (BINS - 2)}}, "greater than or equal to 0"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(change, message):
    document = DriftReference.of(np.full((2, 3), 0.5), "x").model_dump() | change
    with pytest.raises(ValueError, match=message):
        DriftReference.model_validate(document)
