"""Prediction sets: by hand, against brute force, and how often they hold on data that they did not see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from subspace_serve.errors import DataError
from subspace_serve.measure.conformal import PENALTIES, calibrate, measure_coverage, raps_settings
from subspace_serve.prediction_sets import (
    MOST_SCORES,
    Method,
    complaint_about,
    images_for,
    kept_scores,
    label_scores,
    largest_coverage,
    rank_of,
    threshold_of,
)

BY_HAND = np.array([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.6, 0.1]])


def synthetic(count: int, seed: int, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Exchangeable images of an overconfident network that is right about two times in three."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=count)
    logits = random.normal(0, 2, (count, classes))
    logits[np.arange(count), labels] += 3 * random.random(count) + 1
    exponentials = np.exp(1.5 * logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True), labels


def brute_force_score(row: np.ndarray, label: int, method: Method, k_reg: int, penalty: float) -> float:
    """The score of one label as the papers define it, but 0 for the first; equal probabilities rank by their index."""
    better = [other for other in range(len(row)) if (-row[other], other) < (-row[label], label)]
    if not better:
        return 0.0
    if method == "lac":
        return float(1 - row[label])
    total = sum(row[other] for other in better) + row[label]
    return float(total + (penalty * max(len(better) + 1 - k_reg, 0) if method == "raps" else 0))


def test_scores_by_hand() -> None:
    np.testing.assert_allclose(label_scores(BY_HAND, "lac"), [[0, 0.7, 0.85, 0.95], [0.9, 0.8, 0, 0.9]])
    # The second row: 0.6, then 0.2, then the first 0.1 and the last 0.1.
    np.testing.assert_allclose(label_scores(BY_HAND, "aps"), [[0, 0.8, 0.95, 1.0], [0.9, 0.8, 0, 1.0]])
    raps = label_scores(BY_HAND, "raps", k_reg=1, penalty=0.1)
    np.testing.assert_allclose(raps, [[0, 0.9, 1.15, 1.3], [1.1, 0.9, 0, 1.3]])


@pytest.mark.parametrize(
    ("method", "threshold", "expected"),
    [
        ("lac", 0.7, [[1, 1, 0, 0], [0, 0, 1, 0]]),
        ("lac", 0.85, [[1, 1, 1, 0], [0, 1, 1, 0]]),
        ("lac", 0.3, [[1, 0, 0, 0], [0, 0, 1, 0]]),  # 1 - p is more for every label, but the first one is in every set
        ("aps", 0.9, [[1, 1, 0, 0], [1, 1, 1, 0]]),
        ("raps", 1.0, [[1, 1, 0, 0], [0, 1, 1, 0]]),
    ],
)
def test_sets_by_hand(method: Method, threshold: float, expected: list[list[int]]) -> None:
    scores = label_scores(BY_HAND, method, k_reg=1, penalty=0.1)
    assert (scores <= threshold + 1e-12).astype(int).tolist() == expected


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
def test_scores_and_sets_are_those_of_brute_force(method: Method) -> None:
    probabilities, labels = synthetic(300, seed=1)
    probabilities[0] = 1 / 6  # all equal
    probabilities[1] = [0.25, 0.25, 0.5, 0, 0, 0]
    scores = label_scores(probabilities, method, k_reg=2, penalty=0.05)
    expected = [[brute_force_score(row, label, method, 2, 0.05) for label in range(6)] for row in probabilities]
    np.testing.assert_allclose(scores, expected, atol=1e-12)
    own = sorted(expected[row][label] for row, label in enumerate(labels))
    threshold = own[math.ceil(301 * 0.9) - 1]
    kept = kept_scores(scores[np.arange(300), labels])
    assert threshold_of(kept, 300, 0.9) == pytest.approx(threshold)
    held = scores <= threshold_of(kept, 300, 0.9)
    for row in range(300):
        assert set(np.flatnonzero(held[row])) == {label for label in range(6) if expected[row][label] <= threshold}


def test_the_rank_is_that_of_the_number_as_it_is_written() -> None:
    assert [rank_of(coverage, 19) for coverage in (0.55, 0.9, 0.95)] == [11, 18, 19]
    assert rank_of(0.951, 19) == 20
    assert [images_for(coverage) for coverage in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    for coverage in (0.5, 0.55, 0.7, 0.9, 0.95, 0.975, 0.99, 0.999):
        needed = images_for(coverage)
        assert rank_of(coverage, needed) <= needed
        assert rank_of(coverage, needed - 1) > needed - 1
    assert [largest_coverage(count) for count in (1, 9, 144)] == [0.5, 0.9, 0.993]
    assert rank_of(5e-324, 100) == 1
    assert rank_of(np.float64(0.9), 9) == 9


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, math.nan, math.inf])
def test_a_coverage_outside_0_and_1_is_refused(coverage: float) -> None:
    assert "between 0 and 1" in (complaint_about(coverage, 100) or "")


def test_a_coverage_that_the_images_do_not_support_is_refused_with_their_number() -> None:
    found = calibrate(*synthetic(18, seed=0))
    with pytest.raises(DataError, match=r"0\.95 takes 19 calibration images, and there are 18; ask for 0\.947"):
        found.sets(BY_HAND, 0.95)
    assert found.sets(synthetic(5, seed=1)[0], 0.947).shape == (5, 6)
    assert complaint_about(0.9, 9) is None
    assert "a coverage of 0.9999999 takes 9999999 calibration images" in (complaint_about(0.9999999, 9) or "")


def test_of_many_images_the_kept_scores_promise_no_less() -> None:
    for count in (MOST_SCORES, MOST_SCORES + 1, 2500, 12_345):
        scores = np.random.default_rng(count).permutation(np.arange(1.0, count + 1))  # a score is its own rank
        kept = kept_scores(scores)
        assert len(kept) == MOST_SCORES
        assert kept[-1] == count
        for coverage in (0.001, 0.3, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999):
            rank = rank_of(coverage, count)
            assert rank <= threshold_of(kept, count, coverage) <= rank + count / MOST_SCORES
    few = kept_scores(np.array([3.0, 1.0, 2.0]))
    assert few.tolist() == [1.0, 2.0, 3.0]
    assert [threshold_of(few, 3, coverage) for coverage in (0.25, 0.26, 0.5, 0.75)] == [1.0, 2.0, 2.0, 3.0]


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_coverage_holds_over_many_divisions(method: Method, coverage: float) -> None:
    count, others, divisions = 199, 100, 200
    covered = singles = 0
    for seed in range(divisions):
        probabilities, labels = synthetic(count + others, seed)
        found = calibrate(probabilities[:count], labels[:count], method, seed=seed)
        measured = measure_coverage(found, probabilities[count:], labels[count:], coverage)
        assert measured is not None
        covered += round(measured.coverage * others)
        singles += measured.mean_size < 1.001
    # Given its calibration, a division's coverage is Beta(k, n + 1 - k), since the network is right less often.
    n = found.count
    rank = rank_of(coverage, n)
    hits = stats.betabinom(others, rank, n + 1 - rank)
    margin = 4 * math.sqrt(divisions * hits.var())
    assert covered > divisions * hits.mean() - margin
    assert covered < divisions * hits.mean() + margin
    assert singles == 0


def test_a_network_that_is_right_oftener_than_is_asked_answers_with_its_first_label_alone() -> None:
    probabilities = np.tile([0.6, 0.4], (100, 1))
    found = calibrate(probabilities, np.repeat([0, 1], [95, 5]))
    assert found.sets(probabilities, 0.94).tolist() == [[True, False]] * 100
    assert found.sets(probabilities, 0.96).tolist() == [[True, True]] * 100


def test_no_set_is_empty_and_more_coverage_only_adds_labels() -> None:
    probabilities, labels = synthetic(300, seed=5)
    for method in ("lac", "aps", "raps"):
        found = calibrate(probabilities, labels, method)  # type: ignore[arg-type]
        before = np.zeros((300, 6), dtype=bool)
        for coverage in (0.01, 0.5, 0.8, 0.9, 0.95, 0.99):
            held = found.sets(probabilities, coverage)
            assert held[np.arange(300), probabilities.argmax(axis=1)].all()
            assert (held >= before).all()
            before = held


def test_coverage_is_measured_by_hand() -> None:
    found = calibrate(np.tile([0.7, 0.2, 0.1], (9, 1)), np.array([0] * 8 + [1]))
    assert found.count == 9
    np.testing.assert_allclose(found.scores, [0] * 8 + [0.8])
    # At 0.9 the threshold is the ninth score, 0.8: labels of a probability from 0.2.
    measured = measure_coverage(
        found, np.array([[0.5, 0.3, 0.2], [0.9, 0.08, 0.02], [0.1, 0.6, 0.3]]), np.array([2, 0, 0])
    )
    assert measured is not None
    assert (measured.images, measured.asked) == (3, 0.9)
    assert measured.coverage == pytest.approx(2 / 3)
    assert measured.class_coverage == (0.5, None, 1.0)
    assert measured.mean_size == pytest.approx((3 + 1 + 2) / 3)
    assert measure_coverage(calibrate(*synthetic(8, 0)), *synthetic(8, 1)) is None


def test_raps_chooses_its_settings_on_other_images_than_those_that_calibrate() -> None:
    probabilities, labels = synthetic(500, seed=3)
    found = calibrate(probabilities, labels, "raps", seed=7)
    assert (found.tuned_on, found.count) == (100, 400)
    assert found.penalty in PENALTIES
    from subspace_serve.data.drawing import carve

    rest, tuning = carve(labels, 100, 7)
    assert (found.k_reg, found.penalty) == raps_settings(probabilities[tuning], labels[tuning])
    scores = label_scores(probabilities[rest], "raps", k_reg=found.k_reg, penalty=found.penalty)
    np.testing.assert_array_equal(found.scores, np.sort(scores[np.arange(400), labels[rest]]))
    with pytest.raises(DataError, match="on a fifth of the images, 9 or more; found 8 of 40: give 45 or more"):
        calibrate(probabilities[:40], np.arange(40) % 5, "raps")


def test_raps_settings_by_hand() -> None:
    # The right label is second in one image of nine, so the quantile of ranks at 0.9 is 2.
    probabilities = np.tile([0.5, 0.3, 0.15, 0.05], (9, 1))
    labels = np.array([0] * 8 + [1])
    k_reg, penalty = raps_settings(probabilities, labels)
    assert (k_reg, penalty) == (2, 0.001)  # all penalties give sets of two labels, so the first is taken
    assert raps_settings(probabilities, np.zeros(9, int))[0] == 1


def test_what_are_no_probabilities_or_labels_is_refused() -> None:
    with pytest.raises(DataError, match="sum to 1"):
        calibrate(np.ones((3, 2)), np.zeros(3, int))
    with pytest.raises(DataError, match="Labels must be integers"):
        calibrate(np.full((3, 2), 0.5), np.array([0, 1, 2]))
    with pytest.raises(DataError, match="at least one image"):
        calibrate(np.empty((0, 2)), np.empty(0, int))
