"""Ensembles at their best temperature, counted in independent networks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from subspace_serve.answers import softmax
from subspace_serve.measure.networks import Candidate, Networks, combined
from subspace_serve.space.place import Alpha
from trainer.config import TrainingConfig
from trainer.reproduce.cache import Cache
from trainer.reproduce.calibrated import calibrated_log_likelihood, deep_ensemble_equivalent
from trainer.reproduce.description import Case
from trainer.reproduce.measures import Along, EnsemblesBySize, Trained
from trainer.reproduce.numbers import numbers_of, values_table
from trainer.reproduce.work import Task

TINY = {"data": "digits", "architecture": "cresnet8-4", "epochs": 2, "batch_size": 128, "train_images": 256}


def test_a_temperature_is_forgiven_and_a_mistake_is_not() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(400, 5))
    labels = np.array([generator.choice(5, p=row) for row in softmax(logits)])
    truth = calibrated_log_likelihood(softmax(logits), labels)
    # What the labels were drawn from needs no temperature: its likelihood is what it is worth, but for the fit.
    assert truth == pytest.approx(np.log(softmax(logits)[np.arange(400), labels]).mean(), abs=0.01)
    for factor in (0.3, 3.0):
        assert calibrated_log_likelihood(softmax(factor * logits), labels) == pytest.approx(truth, abs=1e-6)
    assert calibrated_log_likelihood(softmax(generator.normal(size=(400, 5))), labels) < truth - 0.2


def test_every_image_is_scored_at_a_temperature_of_others() -> None:
    """By hand, where each half has one image: the other's temperature is the lowest or the highest there is."""
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4]])
    # Image 0 is right, so 1 is answered at temperature 0.05; image 1 is wrong, so 0 is answered at temperature 20.
    at_lowest, at_highest = np.array([0.6, 0.4]) ** 20, np.array([0.8, 0.2]) ** 0.05
    expected = (math.log(at_lowest[1] / at_lowest.sum()) + math.log(at_highest[0] / at_highest.sum())) / 2
    assert calibrated_log_likelihood(probabilities, np.array([0, 1])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "networks"),
    [(-0.6, 1), (-0.5, 1), (-0.45, 1.5), (-0.4, 2), (-0.395, 3.5), (-0.39, 4), (-0.38, math.inf)],
)
def test_networks_are_counted_between_sizes(value: float, networks: float) -> None:
    by_size = [-0.5, -0.4, -0.4, -0.39]
    assert deep_ensemble_equivalent(value, by_size) == pytest.approx(networks)


@pytest.mark.slow
def test_ensembles_are_measured_and_counted(tmp_path: Path) -> None:
    cache, along = Cache(tmp_path), Along(3, 200, 128)
    deep_config = TrainingConfig(subspace="ensemble", endpoints=3, **TINY)
    deep = Task("panel", Case("deep"), deep_config, EnsemblesBySize(200, 128)).perform(cache)
    whole = Task("panel", Case("deep"), deep_config, along).perform(cache)
    standard = Task("panel", Case("one"), TrainingConfig(subspace="standard", **TINY), along).perform(cache)
    run = Trained(deep_config, cache.run(deep_config), cache.run)
    a, b, c = run.subspace.geometry.ends

    def likelihood(*members: Alpha) -> float:
        networks = Networks(run.network, run.calibration(128))
        (answers,) = networks.measure(
            [Candidate(members)], run.test_images(200), lambda model, logits, _: combined(model, logits)
        )
        return calibrated_log_likelihood(np.concatenate(answers), run.test_images(200).labels)

    # The first member is the standard network, and all of them are the ends together.
    assert likelihood(a) == pytest.approx(standard["calibrated_log_likelihood"]["midpoint"], abs=1e-6)
    singles, pairs = [likelihood(end) for end in (a, b, c)], [likelihood(a, b), likelihood(a, c), likelihood(b, c)]
    assert deep["by_size"][:2] == pytest.approx([np.mean(singles), np.mean(pairs)], abs=1e-6)
    assert np.ptp(singles) > 1e-3
    assert deep["by_size"][2] == pytest.approx(whole["calibrated_log_likelihood"]["ends"], abs=1e-6)
    assert set(standard["calibrated_log_likelihood"]) == {"midpoint"}
    numbers = {"panel": {"deep": [numbers_of(deep)], "three": [numbers_of(whole)]}}
    (row,) = [line for line in values_table(numbers, ["accuracy"], "numbers") if line.startswith("| three")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[-2] == f"{deep['by_size'][2]:.3f}"
    assert cells[-1] == f"{deep_ensemble_equivalent(deep['by_size'][2], deep['by_size']):.1f}"


def test_a_number_that_a_seed_lacks_is_not_shown() -> None:
    points = [{"alpha": alpha, "accuracy": 0.5} for alpha in (0, 0.5, 1)]
    runs = [{"points": points, "ends_ensemble": 0.5} for _ in range(3)]
    runs[1]["calibrated_log_likelihood"] = {"midpoint": -0.5, "ends": -0.45}
    runs[2]["calibrated_log_likelihood"] = {"midpoint": -0.5, "ends": -0.3}
    deep = [{"by_size": [-0.5, -0.4]}] * 3

    def row(runs: list[dict]) -> str:
        table = values_table({"panel": {"line": runs, "deep": deep}}, ["accuracy"], "numbers")
        (found,) = [line for line in table if line.startswith("| line")]
        return found

    # The mean of two seeds beside means of three would compare unlike seeds.
    assert row(runs).endswith("| 50.00 ± 0.00 | 50.00 ± 0.00 |  |")
    runs[0]["calibrated_log_likelihood"] = {"midpoint": -0.5, "ends": -0.5}
    assert row(runs).endswith("| -0.417 ± 0.104 | 1.0, 1.5, > 2 |")
