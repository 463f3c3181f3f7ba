"""Abstaining: bounds against scipy, curves by hand and by brute force, and how often the promise holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from subspace_serve.abstention import (
    DELTA,
    FINE_SHARES,
    SHARES,
    Level,
    binomial_tail,
    candidates_of,
    choose,
    images_for,
    levels_of,
)
from subspace_serve.errors import DataError
from subspace_serve.measure.abstention import risk_coverage


@pytest.mark.parametrize(
    ("wrong", "count", "rate"),
    [
        (0, 10, 0.05), (3, 10, 0.05), (9, 10, 0.5), (10, 10, 0.05), (0, 0, 0.05), (5, 400, 0.05), (60, 2000, 0.05),
        (900, 10_000, 0.1), (0, 100_000, 1e-6), (1999, 2000, 0.999),
    ],
)  # fmt: skip
def test_the_tail_is_the_binomials_and_its_bound_clopper_and_pearsons(wrong: int, count: int, rate: float) -> None:
    assert binomial_tail(wrong, count, rate) == pytest.approx(stats.binom.cdf(wrong, count, rate), rel=1e-9)
    if wrong < count:
        for delta in (0.05, 0.05 / len(SHARES)):
            upper = stats.beta.ppf(1 - delta, wrong + 1, count - wrong)
            assert binomial_tail(wrong, count, upper) == pytest.approx(delta, rel=1e-6)
            assert binomial_tail(wrong, count, (upper + 1) / 2) < delta < binomial_tail(wrong, count, upper / 2)


def test_how_many_images_prove_a_rate() -> None:
    assert images_for(0.05, 0.05) == 59
    assert images_for(0.05, 0.0025) == 117
    assert (1 - 0.05) ** 59 <= 0.05 < (1 - 0.05) ** 58
    assert images_for(5e-324) == math.inf
    # Of 144 images candidates answer 15, 29, 58, 87, 101, 116, 123, 130, 137 and 144. Without a mistake delta / 6 takes
    # 94 images, and delta / 7 takes 97, more than the 87 of a seventh.
    assert [images_for(0.05, DELTA / count) for count in (6, 7)] == [94, 97]
    assert candidates_of(144, 0.05) == [101, 116, 123, 130, 137, 144]
    assert candidates_of(30, 0.9) == [3, 6, 12, 18, 21, 24, 26, 27, 29, 30]
    assert candidates_of(58, 0.05) == []
    assert candidates_of(2000, 0.5) == list(range(50, 2001, 50))
    assert candidates_of(59, 0.05) == [59]


def test_levels_by_hand() -> None:
    scores = np.linspace(0.02, 0.8, 40)
    right = np.arange(40) >= 10  # the ten with the smallest scores are wrong
    levels = levels_of(scores, right)
    assert [level.answered for level in levels] == [4, 8, 16, 24, 28, 32, 34, 36, 38, 40]
    assert [level.wrong for level in levels] == [0] * 5 + [2, 4, 6, 8, 10]
    assert levels[-1].threshold == -1
    assert levels[0].threshold == pytest.approx(scores[35])
    for level in levels:
        assert level.answered == (scores > level.threshold).sum()


def test_equal_scores_are_answered_together() -> None:
    scores = np.repeat([0.5, 1.0], [30, 10])
    levels = levels_of(scores, np.ones(40, bool))
    assert levels == [Level(1.0, 0, 0), Level(0.5, 10, 0), Level(-1.0, 40, 0)]  # not 4 and 8
    assert levels_of(np.array([0.7]), np.array([False])) == [Level(-1.0, 1, 1)]
    assert levels_of(np.array([0.0, 0.0]), np.array([True, False])) == [Level(0.0, 0, 0), Level(-1.0, 2, 1)]


def test_the_level_that_answers_most_among_the_proven_is_chosen() -> None:
    share = DELTA / len(candidates_of(1000, 0.05))
    levels = [Level(1 - answered / 1000, answered, wrong) for answered, wrong in ((500, 5), (800, 20), (900, 40))]
    levels.append(Level(-1, 1000, 70))
    proven = [stats.beta.ppf(1 - share, level.wrong + 1, level.answered - level.wrong) <= 0.05 for level in levels]
    assert proven == [True, True, False, False]
    assert len(candidates_of(1000, 0.05)) == len(FINE_SHARES) - 5  # 125 images prove no rate of 5 % beside 35 others
    assert choose(levels, 0.05) == levels[1]
    assert choose(levels, 0.2) == levels[3]
    assert choose(levels, 0.001) is None
    assert choose(levels, 5e-324) is None
    assert choose([Level(-1, 10, 0)], 0.05) is None
    assert choose([Level(-1, 10, 0)], 0.9) == Level(-1, 10, 0)


def test_only_candidates_that_were_counted_are_chosen() -> None:
    assert candidates_of(22, 0.15) == [22]
    # 19 answers without a mistake would prove it as the only candidate, and 22 are the only candidate.
    assert choose([Level(0.9, 19, 0), Level(-1, 22, 3)], 0.15) is None
    assert choose([Level(0.9, 19, 0), Level(-1, 22, 0)], 0.15) == Level(-1, 22, 0)


def error_rate(threshold: float) -> float:
    """The error rate above a threshold where scores are uniform and an answer of score s is wrong at (1 - s)^2 / 2."""
    rest = 1 - max(threshold, 0)
    return rest**2 / 6


@pytest.mark.parametrize(("max_risk", "count", "worth"), [(0.02, 3000, 0.25), (0.05, 1000, 0.4), (0.1, 400, 0.4)])
def test_the_promise_holds_on_new_images_as_often_as_it_says(max_risk: float, count: int, worth: float) -> None:
    repetitions, broken, answered = 1000, 0, []
    for seed in range(repetitions):
        random = np.random.default_rng(seed)
        scores = random.random(count)
        right = random.random(count) >= (1 - scores) ** 2 / 2
        level = choose(levels_of(scores, right), max_risk)
        broken += level is not None and error_rate(level.threshold) > max_risk
        answered.append(0 if level is None else level.answered / count)
    assert broken <= stats.binom.ppf(0.9999, repetitions, DELTA)
    # It is worth something: the best threshold of all answers sqrt(6 max_risk) of the images.
    assert np.mean(answered) > worth * math.sqrt(6 * max_risk)


def test_a_score_that_says_nothing_promises_nothing() -> None:
    broken = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        level = choose(levels_of(random.random(400), random.random(400) >= 0.06), 0.05)
        broken += level is not None  # every threshold has an error rate of 6 %
    assert broken <= stats.binom.ppf(0.9999, 300, DELTA)


def test_the_risk_coverage_curve_by_hand() -> None:
    curve = risk_coverage(np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, False, False, True]))
    np.testing.assert_allclose(curve.risks, [0, 1 / 2, 1 / 3, 2 / 4])
    assert curve.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert [curve.answered_at(risk) for risk in (0, 0.4, 0.5)] == [0.25, 0.75, 1.0]
    assert risk_coverage(np.array([0.5]), np.array([False])).answered_at(0.5) == 0


def test_equal_scores_share_their_mistakes() -> None:
    curve = risk_coverage(np.array([0.5, 0.5, 0.9, 0.5]), np.array([True, True, True, False]))
    np.testing.assert_allclose(curve.risks, [0, 1 / 6, 2 / 9, 1 / 4])
    random = np.random.default_rng(0)
    scores, right = random.integers(5, size=200) / 5, random.random(200) < 0.7
    order = random.permutation(200)
    assert risk_coverage(scores, right).aurc == pytest.approx(risk_coverage(scores[order], right[order]).aurc)
    # The mean over random orders of those that tie.
    means = []
    for _ in range(2000):
        ranked = np.lexsort([random.random(200), -scores])
        means.append((np.cumsum(~right[ranked]) / np.arange(1, 201)).mean())
    assert risk_coverage(scores, right).aurc == pytest.approx(np.mean(means), abs=4 * np.std(means) / math.sqrt(2000))


@pytest.mark.parametrize(("scores", "right"), [([], []), ([0.5], [True, False]), ([[0.5]], [[True]])])
def test_what_is_no_score_for_each_image_is_refused(scores: list, right: list) -> None:
    with pytest.raises(DataError, match="one image or more"):
        risk_coverage(np.array(scores), np.array(right))
