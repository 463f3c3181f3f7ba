"""Averaging members and tempering answers, against numbers worked out by hand and against torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from subspace_serve.answers import apply_temperature, ensemble_probabilities, softmax

# Odds of 1:3 and 9:1 in two classes.
MEMBERS = np.array([[[0.0, math.log(3)]], [[math.log(9), 0.0]]])


def test_an_ensemble_averages_probabilities() -> None:
    assert ensemble_probabilities(MEMBERS)[0].tolist() == pytest.approx([(0.25 + 0.9) / 2, (0.75 + 0.1) / 2])


def test_an_ensemble_averages_logits() -> None:
    # The odds' geometric mean: sqrt(1/3 * 9) = sqrt(3).
    odds = math.sqrt(3)
    expected = [odds / (1 + odds), 1 / (1 + odds)]
    assert ensemble_probabilities(MEMBERS, aggregate="logits")[0].tolist() == pytest.approx(expected)


def test_weights_are_scaled_to_sum_to_one() -> None:
    expected = [0.75 * 0.25 + 0.25 * 0.9, 0.75 * 0.75 + 0.25 * 0.1]
    for weights in ([0.75, 0.25], [3, 1], np.array([6.0, 2.0])):
        assert ensemble_probabilities(list(MEMBERS), weights)[0].tolist() == pytest.approx(expected)
    assert ensemble_probabilities(MEMBERS, [0, 2], "logits")[0].tolist() == pytest.approx([0.9, 0.1])


def test_a_single_member_is_its_softmax_in_double_precision() -> None:
    logits = np.array([[100.0, 0.0]], dtype=np.float32)  # exp(-100) vanishes in float32
    probabilities = ensemble_probabilities([logits])
    assert probabilities.dtype == np.float64
    assert probabilities[0, 1].item() == pytest.approx(math.exp(-100))
    assert logits.dtype == np.float32


@pytest.mark.parametrize("weights", [[1.0], [], [0, 0], [2, -1], [1, float("nan")], [1, float("inf")]])
def test_unfit_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="needs 2 weights"):
        ensemble_probabilities(MEMBERS, weights)


def test_unfit_members_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        ensemble_probabilities([])
    with pytest.raises(ValueError, match=r"one shape; found \[\(1, 2\), \(4, 2\)\]"):
        ensemble_probabilities([MEMBERS[0], np.zeros((4, 2))])
    with pytest.raises(ValueError, match="found 'votes'"):
        ensemble_probabilities(MEMBERS, aggregate="votes")


def test_a_temperature_acts_on_probabilities_as_on_logits() -> None:
    logits = 2 * np.random.default_rng(0).standard_normal((50, 5))
    np.testing.assert_allclose(apply_temperature(softmax(logits), 2.5), softmax(logits / 2.5), rtol=1e-12, atol=1e-14)
    averaged = ensemble_probabilities([logits, logits[:, ::-1]], [3, 1], "logits")
    np.testing.assert_allclose(
        apply_temperature(averaged, 0.5), softmax(2 * (0.75 * logits + 0.25 * logits[:, ::-1])), rtol=1e-7, atol=1e-7
    )
    assert apply_temperature(averaged, 1.0) is averaged
    certain = np.array([[1.0, 0.0]])
    assert np.isfinite(apply_temperature(certain, 2.0)).all()


@pytest.mark.parametrize("temperature", [1.0, 0.3, 5.0])
@pytest.mark.parametrize("aggregate", ["probabilities", "logits"])
@pytest.mark.parametrize("members", [1, 3])
def test_answers_are_those_of_torch(members: int, aggregate: str, temperature: float) -> None:
    generator = np.random.default_rng(members)
    logits = 3 * generator.standard_normal((members, 20, 7))
    weights = torch.from_numpy(generator.random(members)).view(-1, 1, 1)
    weights /= weights.sum()
    given = torch.from_numpy(logits)
    averaged = (weights * given).sum(0) if aggregate == "logits" else (weights * given.softmax(2)).sum(0).log()
    np.testing.assert_allclose(
        ensemble_probabilities(logits, weights.flatten().tolist(), aggregate, temperature),
        (averaged / temperature).softmax(1),
        rtol=1e-12,
    )


def test_a_networks_temperature_reaches_what_its_probabilities_have_rounded_to_zero() -> None:
    expected = 1 / (1 + math.exp(40))
    assert ensemble_probabilities([np.array([[800.0, 0.0]])], temperature=20)[0, 1] == pytest.approx(expected)
