from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from subspace_serve.answers import softmax, total_variation
from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import (
    METRICS,
    Scores,
    classification_metrics,
    score,
)

PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [1.0, 0.0]])
LABELS = np.array([0, 1, 1, 0])


def test_metrics_by_hand() -> None:
    metrics = classification_metrics(PROBABILITIES, LABELS)
    assert list(metrics) == ["accuracy", "nll", "ece", "brier"]
    assert metrics["accuracy"] == 0.75
    assert metrics["nll"] == pytest.approx(-math.log(0.9 * 0.2 * 0.6) / 4)
    assert metrics["ece"] == pytest.approx((0.1 + 0.8 + 0.4 + 0.0) / 4)  # each in a bin of its own
    assert metrics["brier"] == pytest.approx((2 * 0.1**2 + 2 * 0.8**2 + 2 * 0.4**2) / 4)


def test_metrics_are_plain_floats_whatever_the_type_of_the_arrays() -> None:
    metrics = classification_metrics(PROBABILITIES.astype(np.float32), LABELS.astype(np.uint8))
    assert {type(value) for value in metrics.values()} == {float}
    assert metrics["nll"] == pytest.approx(-math.log(0.9 * 0.2 * 0.6) / 4, abs=1e-6)


def test_calibration_error_averages_within_a_bin() -> None:
    # 0.89 and 0.91 share the bin from 13/15 to 14/15: mean confidence 0.9, accuracy 0.5.
    probabilities = np.array([[0.89, 0.11], [0.91, 0.09]])
    assert classification_metrics(probabilities, np.array([0, 1]))["ece"] == pytest.approx(0.4)
    # 0.86 and 0.88 do not, though they are as close.
    probabilities = np.array([[0.86, 0.14], [0.88, 0.12]])
    assert classification_metrics(probabilities, np.array([0, 1]))["ece"] == pytest.approx((0.14 + 0.88) / 2)


def test_a_probability_rounded_above_one_is_no_logit() -> None:
    probabilities = np.array([[1 + 2e-16, 0.0], [0.0, 1.0]])
    assert probabilities.max() > 1
    assert classification_metrics(probabilities, np.array([0, 1]))["ece"] == 0


def test_a_probability_of_zero_has_a_finite_likelihood() -> None:
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5]])
    nll = classification_metrics(probabilities, np.array([1, 0]))["nll"]
    assert nll == pytest.approx((1022 * math.log(2) + math.log(2)) / 2)


def test_the_brier_score_goes_from_0_to_2() -> None:
    certain = np.array([[1.0, 0.0, 0.0]])
    assert classification_metrics(certain, np.array([0]))["brier"] == 0
    assert classification_metrics(certain, np.array([2]))["brier"] == 2
    assert classification_metrics(np.full((1, 4), 0.25), np.array([3]))["brier"] == pytest.approx(0.75)


def test_accuracy_of_no_and_of_every_image() -> None:
    assert classification_metrics(PROBABILITIES, PROBABILITIES.argmax(1))["accuracy"] == 1
    assert classification_metrics(PROBABILITIES, PROBABILITIES.argmin(1))["accuracy"] == 0


def random_scores(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, Scores]:
    generator = np.random.default_rng(seed)
    probabilities = softmax(2 * generator.standard_normal((count, 5)))
    labels = generator.integers(5, size=count)
    return probabilities, labels, score(probabilities, labels)


def test_calibration_error_is_that_of_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error

    probabilities, labels, scores = random_scores(997, seed=0)
    given = torch.from_numpy(probabilities), torch.from_numpy(labels)
    expected = multiclass_calibration_error(*given, num_classes=5, n_bins=15, norm="l1").item()
    assert scores.metrics()["ece"] == pytest.approx(expected, abs=1e-6)


def test_scores_in_parts_are_the_scores_of_the_whole() -> None:
    _, _, scores = random_scores(20, seed=1)
    joined = Scores.joined([scores.subset(slice(0, 7)), scores.subset(slice(7, None))])
    assert joined.metrics() == scores.metrics()
    assert len(joined) == 20


@pytest.mark.parametrize("metric", METRICS)
def test_a_weight_of_two_counts_an_image_twice(metric: str) -> None:
    _, _, scores = random_scores(30, seed=2)
    weights = np.ones((1, 30))
    weights[0, 3], weights[0, 4] = 2, 0
    indices = np.array([index for index in range(30) if index != 4] + [3])
    assert scores.weighted(metric, weights)[0] == pytest.approx(scores.subset(indices).metrics()[metric])


def test_a_reliability_diagram_by_hand() -> None:
    probabilities = np.array([[0.89, 0.11], [0.91, 0.09], [0.52, 0.48]])
    diagram = score(probabilities, np.array([0, 1, 0])).reliability()
    assert len(diagram) == 15
    assert diagram[13] == {"confidence": pytest.approx(0.9), "accuracy": 0.5, "count": 2}
    assert diagram[7] == {"confidence": pytest.approx(0.52), "accuracy": 1.0, "count": 1}
    assert diagram[0] == {"confidence": pytest.approx(1 / 30), "accuracy": 0.0, "count": 0}
    assert sum(entry["count"] for entry in diagram) == 3


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.array([[2.0, -1.0]]), np.array([0]), "minimum of -1 .* were these logits"),
        (np.array([[2.0, 3.0]]), np.array([0]), "sums from 5 to 5"),
        (np.array([[float("nan"), 1.0]]), np.array([0]), "sum to 1; found a minimum of nan"),
        (PROBABILITIES, np.array([0, 1, 2, 0]), "integers from 0 to 1; found int64 from 0 to 2"),
        (PROBABILITIES, np.array([0, -1, 1, 0]), "from -1 to 1"),
        (PROBABILITIES, np.array([0.0, 1.0, 1.0, 0.0]), "found float64"),
        (PROBABILITIES, np.array([0, 1, 1]), r"found shapes \(4, 2\) and \(3,\)"),
        (PROBABILITIES[0], LABELS, r"found shapes \(2,\) and \(4,\)"),
        (np.empty((0, 2)), np.empty(0, dtype=np.int64), "at least one image"),
    ],
)
def test_what_does_not_fit_is_refused(probabilities: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classification_metrics(probabilities, labels)


def test_total_variation_is_half_the_l1_distance() -> None:
    first = np.array([[1.0, 0.0, 0.0], [0.5, 0.3, 0.2]])
    second = np.array([[0.0, 0.5, 0.5], [0.3, 0.3, 0.4]])
    assert total_variation(first, second) == pytest.approx([1.0, 0.2])
    assert total_variation(first, first).tolist() == [0, 0]


def test_the_debiased_calibration_error_of_calibrated_predictions_is_zero_where_the_plain_one_is_not() -> None:
    generator = np.random.default_rng(0)
    plain, debiased, resampled = [], [], []
    for _ in range(300):
        confidence = generator.uniform(0.5, 1, 200)
        labels = (generator.uniform(size=200) > confidence).astype(np.int64)
        scores = score(np.stack([confidence, 1 - confidence], axis=1), labels)
        plain.append(scores.metrics()["ece"])
        debiased.append(-scores.value("ece"))
        weights = generator.poisson(1.0, (20, 200)).astype(np.float64)
        resampled.append(scores.compared("ece", weights).mean())
    assert np.mean(plain) > 0.05
    assert np.mean(debiased) == pytest.approx(0, abs=0.0006)
    assert np.mean(resampled) == pytest.approx(0, abs=0.0006)


def test_the_debiased_calibration_error_finds_a_true_gap() -> None:
    generator = np.random.default_rng(0)
    values = []
    for _ in range(300):
        labels = (generator.uniform(size=200) > 0.7).astype(np.int64)
        values.append(-score(np.tile([0.9, 0.1], (200, 1)), labels).value("ece"))
    assert np.mean(values) == pytest.approx(0.2**2, abs=0.003)
