"""Random mixtures of endpoints at three scales (appendix H, equation 18)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from subspace_serve.answers import softmax
from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.measure.mixtures import SCALES, Scale, mixed_weights, mixture_accuracies
from subspace_serve.run.opened import OpenRun
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.geometry import Geometry, single_network
from subspace_serve.space.subspace import Subspace, Weights
from trainer.modules import as_module, predict_logits

SHAPES = {"first.weight": (30, 20), "first.bias": (30,), "norm.weight": (30,), "last.weight": (4, 30)}
GEOMETRIES = [Geometry("line", 2), Geometry("curve", 3), Geometry("simplex", 3)]
ARCHITECTURE = Architecture("cresnet8-4", classes=10, channels=1, height=8, width=8)


def unit_subspace(geometry: Geometry, index: int) -> Subspace:
    """Endpoints of zeros, but ones at one of them: every mixed weight is that endpoint's coefficient."""
    endpoints = tuple(
        {name: np.full(shape, i == index, np.float32) for name, shape in SHAPES.items()}
        for i in range(geometry.endpoints)
    )
    return Subspace(geometry, ARCHITECTURE, endpoints)


def random_weights(generator: np.random.Generator) -> Weights:
    return {name: generator.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


def coefficients(geometry: Geometry, scale: Scale, seed: int = 0) -> dict[str, np.ndarray]:
    """Return each weight's coefficients, by parameter. Shape (endpoints, weights)."""
    parts = [
        mixed_weights(unit_subspace(geometry, index), scale, np.random.default_rng(seed))
        for index in range(geometry.endpoints)
    ]
    return {name: np.stack([part[name].ravel() for part in parts]) for name in SHAPES}


def distinct(found: dict[str, np.ndarray], *names: str) -> int:
    """Return how many different places these parameters' weights lie at."""
    return len(np.unique(np.concatenate([found[name] for name in names], axis=1), axis=1).T)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.name)
def test_each_scale_draws_as_many_places_as_it_says(geometry: Geometry) -> None:
    found = {scale: coefficients(geometry, scale) for scale in SCALES}
    assert distinct(found["global"], *SHAPES) == 1
    assert distinct(found["layerwise"], *SHAPES) == 3
    assert distinct(found["layerwise"], "first.weight", "first.bias") == 1
    assert distinct(found["weightwise"], *SHAPES) == 600 + 30 + 30 + 120
    for parameters in found.values():
        for values in parameters.values():
            np.testing.assert_allclose(values.sum(0), 1, atol=1e-6)
            assert values.min() >= 0


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.name)
def test_the_places_are_those_of_the_geometrys_own_sampling(geometry: Geometry) -> None:
    drawn = geometry.coefficients_of(geometry.sample(np.random.default_rng(7), 1))[0]
    found = coefficients(geometry, "global", 7)["last.weight"]
    np.testing.assert_allclose(found, np.repeat(drawn[:, None], 120, axis=1), rtol=1e-6)
    layers = geometry.coefficients_of(geometry.sample(np.random.default_rng(7), 3))
    found = coefficients(geometry, "layerwise", 7)
    for name, expected in zip(("first.bias", "norm.weight", "last.weight"), layers, strict=True):
        np.testing.assert_allclose(found[name][:, 0], expected, rtol=1e-6)
    weights = geometry.coefficients_of(geometry.sample(np.random.default_rng(7), 600))
    np.testing.assert_allclose(coefficients(geometry, "weightwise", 7)["first.weight"], weights.T, rtol=1e-6)


@pytest.mark.parametrize(
    ("geometry", "means", "variance"),
    [
        (Geometry("line", 2), [1 / 2, 1 / 2], 1 / 12),
        (Geometry("curve", 3), [1 / 3, 1 / 3, 1 / 3], 4 / 45),
        (Geometry("simplex", 3), [1 / 3, 1 / 3, 1 / 3], 1 / 18),
    ],
    ids=["line", "curve", "simplex"],
)
def test_places_of_single_weights_are_uniform(geometry: Geometry, means: list[float], variance: float) -> None:
    values = np.concatenate([coefficients(geometry, "weightwise", seed)["first.weight"] for seed in range(20)], axis=1)
    count = values.shape[1]
    assert values.mean(1) == pytest.approx(means, abs=5 * (variance / count) ** 0.5)
    # Of the first coefficient: deviations are below 1, so their fourth moment is at most their second.
    assert values[0].var() == pytest.approx(variance, abs=5 * (variance / count) ** 0.5)
    # Independent: the correlation of neighbours is within five standard errors of none.
    assert abs(np.corrcoef(values[0, :-1], values[0, 1:])[0, 1]) < 5 / count**0.5


def test_mixtures_stay_between_their_endpoints() -> None:
    generator = np.random.default_rng(0)
    endpoints = tuple(random_weights(generator) for _ in range(2))
    subspace = Subspace(Geometry("line", 2), ARCHITECTURE, endpoints)
    for scale in SCALES:
        mixed = mixed_weights(subspace, scale, np.random.default_rng(1))
        for name, array in mixed.items():
            low, high = (bound(endpoints[0][name], endpoints[1][name]) for bound in (np.minimum, np.maximum))
            assert array.dtype == np.float32
            assert (array >= low - 1e-6).all()
            assert (array <= high + 1e-6).all()
    assert np.array_equal(
        mixed["norm.weight"], mixed_weights(subspace, "weightwise", np.random.default_rng(1))["norm.weight"]
    )


def test_one_network_has_one_mixture() -> None:
    weights = random_weights(np.random.default_rng(0))
    subspace = Subspace(single_network(), ARCHITECTURE, (weights,))
    for scale in SCALES:
        mixed = mixed_weights(subspace, scale, np.random.default_rng(0))
        assert all(np.array_equal(mixed[name], array) for name, array in weights.items())


def test_mixtures_are_measured_as_the_networks_that_they_are(line_run: Path) -> None:
    run = OpenRun(line_run, calibration_count=256)
    images = run.data.test.subset(np.arange(120))
    measured = mixture_accuracies(run.subspace, run.network, images, run.calibration, scale="global", draws=3, seed=5)
    alphas = np.random.default_rng(5).random(3)
    for alpha, metrics in zip(alphas, measured, strict=True):
        logits = predict_logits(as_module(run.subspace, float(alpha), run.calibration), images, run.preprocessing)
        assert metrics == pytest.approx(classification_metrics(softmax(logits), images.labels), abs=1e-4)


@pytest.mark.parametrize("scale", ["layerwise", "weightwise"])
def test_finer_mixtures_are_other_networks_with_statistics_of_their_own(line_run: Path, scale: Scale) -> None:
    run = OpenRun(line_run, calibration_count=256)
    images = run.data.test.subset(np.arange(120))
    lines: list[str] = []
    measured = mixture_accuracies(
        run.subspace, run.network, images, run.calibration, scale=scale, draws=2, seed=5, progress=lines.append
    )
    generator = np.random.default_rng(5)
    for metrics in measured:
        weights = mixed_weights(run.subspace, scale, generator)
        alone = Subspace(single_network(), run.subspace.architecture, (weights,))
        logits = predict_logits(as_module(alone, (1.0,), run.calibration), images, run.preprocessing)
        assert metrics == pytest.approx(classification_metrics(softmax(logits), images.labels), abs=1e-4)
    assert measured[0]["nll"] != measured[1]["nll"]
    assert lines == [f"{scale} mixture 1 of 2", f"{scale} mixture 2 of 2"]


def test_what_cannot_be_mixed_is_refused(line_run: Path) -> None:
    run = OpenRun(line_run, calibration_count=256)
    others = run.data.test.with_labels(np.full(len(run.data.test), 10))
    with pytest.raises(DataError, match="a label is"):
        mixture_accuracies(run.subspace, run.network, others, run.calibration, scale="global")
