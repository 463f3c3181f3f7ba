"""SWA-Gaussian on weights small enough to know its moments (Maddox et al. 2019)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subspace_serve.space.subspace import Weights
from trainer.gaussian import Gaussian, fit_gaussian

SAMPLES = 40_000


def member(*values: float) -> Weights:
    """A network of a 2x1 matrix and a scalar."""
    numbers = np.array(values, np.float64)
    return {"weight": numbers[:2].reshape(2, 1), "bias": np.asarray(numbers[2])}


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([array.reshape(-1) for array in weights.values()])


# Means 2, 0, 5; the first two move together, the third by itself.
MEMBERS = [member(1, -2, 5), member(2, 0, 8), member(3, 2, 2)]


def test_the_fit_is_that_by_hand() -> None:
    gaussian = fit_gaussian(MEMBERS)
    assert flat(gaussian.mean).tolist() == [2, 0, 5]
    assert flat(gaussian.variance).tolist() == pytest.approx([2 / 3, 8 / 3, 6])
    assert gaussian.members == 3
    assert gaussian.deviations["weight"].squeeze(-1).tolist() == [[-1, -2], [0, 0], [1, 2]]
    assert gaussian.deviations["bias"].tolist() == [0, 3, -3]


@pytest.mark.slow
def test_samples_have_the_moments_of_half_the_diagonal_and_half_the_low_rank() -> None:
    gaussian = fit_gaussian(MEMBERS)
    generator = torch.Generator().manual_seed(0)
    samples = np.stack([flat(gaussian.sample(generator)) for _ in range(SAMPLES)])
    deviations = np.array([[-1.0, 0, 1], [-2, 0, 2], [0, 3, -3]])
    covariance = np.diag([2 / 3, 8 / 3, 6]) / 2
    covariance += deviations @ deviations.T / 4
    variances = covariance.diagonal()
    # Five standard errors: sqrt(v / n) of a mean, sqrt((c_ij^2 + v_i v_j) / n) of a Gaussian's covariance.
    bound = 5 * np.sqrt(variances / SAMPLES)
    assert (np.abs(samples.mean(0) - [2, 0, 5]) < bound).all()
    bound = 5 * np.sqrt((covariance**2 + np.outer(variances, variances)) / SAMPLES)
    assert (np.abs(np.cov(samples.T) - covariance) < bound).all()
    # What the bounds tell apart: without its low-rank half the weights would not vary together.
    assert covariance[0, 1] > 2 * bound[0, 1]


def test_equal_generators_draw_equal_networks() -> None:
    gaussian = fit_gaussian(MEMBERS)
    first, again, other = (gaussian.sample(torch.Generator().manual_seed(seed)) for seed in (4, 4, 5))
    assert flat(first).tolist() == flat(again).tolist()
    assert flat(first).tolist() != flat(other).tolist()


def test_one_vector_moves_the_whole_network_along_the_deviations() -> None:
    """Without the diagonal half, two weights in proportion stay in proportion in every sample."""
    fitted = fit_gaussian(MEMBERS)
    nothing = {name: np.zeros_like(array) for name, array in fitted.variance.items()}
    gaussian = Gaussian(fitted.mean, nothing, fitted.deviations)
    for seed in range(5):
        first, second, _ = (flat(gaussian.sample(torch.Generator().manual_seed(seed))) - flat(fitted.mean)).tolist()
        assert second == pytest.approx(2 * first)
        assert first != 0


def test_equal_members_leave_nothing_to_draw() -> None:
    weights = {"weight": np.array([0.1, 1e8, -3.7], np.float32)}
    gaussian = fit_gaussian([weights] * 3)
    assert gaussian.variance["weight"].tolist() == [0, 0, 0]
    drawn = gaussian.sample(torch.Generator().manual_seed(0))["weight"]
    assert drawn.dtype == np.float32
    assert np.array_equal(drawn, weights["weight"])
