"""Temperatures against known ones, on synthetic answers whose labels are drawn from the answers themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from subspace_serve.answers import apply_temperature, softmax
from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.measure.temperature import HIGHEST, LOWEST, fit_and_report, fit_temperature


def calibrated(count: int, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and labels drawn with the probabilities that these give: the temperature 1 is right."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.standard_normal((count, classes))
    passed = softmax(logits).cumsum(axis=1) < generator.random((count, 1))
    return logits, passed[:, :-1].sum(axis=1)


def likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    return torch.nn.functional.cross_entropy(torch.from_numpy(logits / temperature), torch.from_numpy(labels)).item()


@pytest.mark.parametrize("factor", [0.1, 1.0, 3.0, 10.0])
def test_logits_that_were_scaled_have_that_temperature(factor: float) -> None:
    logits, labels = calibrated(20_000)
    right = fit_temperature(logits, labels)
    assert right == pytest.approx(1, abs=0.03)
    assert fit_temperature(logits * factor, labels) == pytest.approx(right * factor, rel=1e-4)


def test_one_temperature_worked_out_by_hand() -> None:
    # Of four images with the same answer three have the first label: p = 3/4, so the log-odds 6 / T are log 3.
    logits = np.array([[6.0, 0.0]] * 4)
    assert fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(6 / math.log(3), rel=1e-5)


def test_the_likelihood_of_what_was_fitted_is_the_greatest() -> None:
    logits, labels = calibrated(300, seed=1)
    logits = logits * 2.5
    found = fit_temperature(logits, labels)
    assert likelihood(logits, labels, found) < likelihood(logits, labels, 1)
    for other in np.geomspace(LOWEST, HIGHEST, 50):
        assert likelihood(logits, labels, found) <= likelihood(logits, labels, other) + 1e-12


def test_rows_may_be_shifted_and_probabilities_be_given_as_logarithms() -> None:
    logits, labels = calibrated(500)
    found = fit_temperature(logits, labels)
    shifted = logits + 1000 * np.random.default_rng(1).random((500, 1))
    assert fit_temperature(shifted, labels) == pytest.approx(found, rel=1e-6)
    assert fit_temperature(np.log(softmax(logits)), labels) == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize(("sign", "bound"), [(1, LOWEST), (-1, HIGHEST)])
def test_answers_all_right_or_all_wrong_end_at_a_bound(sign: int, bound: float) -> None:
    labels = np.arange(20) % 4
    logits = sign * 3.0 * np.eye(4)[labels]
    assert fit_temperature(logits, labels) == bound


def test_a_bound_is_recorded_and_chosen_on_the_side_of_doubt() -> None:
    labels = np.arange(40) % 4
    right = softmax(3.0 * np.eye(4)[labels])
    separated = fit_and_report(right, labels)
    assert (separated.temperature, separated.at_bound) == (1.0, True)
    assert separated.before == separated.after
    wrong = fit_and_report(np.roll(right, 1, axis=1), labels)
    assert (wrong.temperature, wrong.at_bound) == (HIGHEST, True)
    assert wrong.after["nll"] < wrong.before["nll"]


def test_what_is_reported_was_not_fitted_on() -> None:
    logits, labels = calibrated(1001, seed=2)
    probabilities = softmax(4 * logits)
    fitted = fit_and_report(probabilities, labels, seed=7)
    assert fitted.count + fitted.reported_on == 1001
    assert abs(fitted.count - fitted.reported_on) <= 1
    assert not fitted.at_bound
    assert fitted.temperature == pytest.approx(4, rel=0.2)
    # Labels of the fitting half decide the temperature, those of the other half what is reported.
    from subspace_serve.data.drawing import carve

    reporting, fitting = carve(labels, 500, 7)
    assert fitted.temperature == fit_temperature(np.log(probabilities[fitting]), labels[fitting])
    assert fitted.before == classification_metrics(probabilities[reporting], labels[reporting])
    assert fitted.after == classification_metrics(
        apply_temperature(probabilities[reporting], fitted.temperature), labels[reporting]
    )
    assert fitted.after["nll"] < fitted.before["nll"]
    assert fitted.after["ece"] < fitted.before["ece"] / 2
    assert fitted.after["accuracy"] == fitted.before["accuracy"]


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, dtype=np.int64), "at least one image"),
        (np.zeros((2, 3)), np.zeros(3, dtype=np.int64), "at least one image"),
        (np.array([[0.0, np.nan]]), np.array([0]), "found 1 that are not"),
        (np.array([[np.inf, -np.inf]]), np.array([0]), "found 2 that are not"),
        (np.zeros((2, 3)), np.array([0, 3]), "from 0 to 2; found int64 from 0 to 3"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), "found float64"),
    ],
)
def test_what_cannot_be_fitted_is_refused(logits: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_temperature(logits, labels)


@pytest.mark.parametrize("labels", [[], [0], [0, 1, 2]])
def test_two_halves_need_two_images_of_a_class(labels: list[int]) -> None:
    with pytest.raises(DataError, match="one half of the images"):
        fit_and_report(np.full((len(labels), 3), 1 / 3), np.array(labels, dtype=np.int64))
