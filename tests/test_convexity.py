"""Proposition A.1: with a convex loss, learning a subspace is a convex problem in its endpoints (appendix A)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from subspace_serve.space.geometry import Geometry

GEOMETRIES = [Geometry("line", 2), Geometry("curve", 3), Geometry("simplex", 4)]
FEATURES, CLASSES, EXAMPLES, PLACES = 3, 3, 24, 500

torch.manual_seed(0)
INPUTS = torch.randn(EXAMPLES, FEATURES, dtype=torch.float64)
LABELS = torch.arange(EXAMPLES) % CLASSES
TARGETS = torch.randn(EXAMPLES, dtype=torch.float64)
TEACHER = torch.tensor([1.0, -0.5, 0.5, 2.0], dtype=torch.float64)

Loss = Callable[[Tensor], Tensor]


def logistic(theta: Tensor) -> Tensor:
    """Multinomial logistic regression: convex, though not strictly (equal shifts of all classes change nothing)."""
    return cross_entropy(INPUTS @ theta.view(FEATURES, CLASSES), LABELS)


def squared(theta: Tensor) -> Tensor:
    """Least squares: strictly convex, with the constant Hessian 2 X^T X / N."""
    return (INPUTS @ theta - TARGETS).square().mean()


def two_layers(theta: Tensor) -> Tensor:
    """A network of one hidden unit that learns from another: not convex, for -theta is the same network as theta."""
    return (_one_unit(theta) - _one_unit(TEACHER)).square().mean()


def _one_unit(theta: Tensor) -> Tensor:
    return torch.tanh(INPUTS @ theta[:-1]) * theta[-1]


def objective(geometry: Geometry, loss: Loss) -> Loss:
    """Return h(omega) = E[loss(P(alpha, omega))] over fixed places: a mean of finitely many, so exact (equation 6)."""
    alphas = geometry.sample(np.random.default_rng(1), PLACES)
    coefficients = torch.from_numpy(geometry.coefficients_of(alphas))

    def h(omega: Tensor) -> Tensor:
        return torch.vmap(loss)(coefficients @ omega).mean()

    return h


def chord_gaps(geometry: Geometry, loss: Loss, size: int, pairs: int = 100) -> Tensor:
    """Return (1 - l) h(a) + l h(b) - h((1 - l) a + l b) for random endpoints a, b and l: negative where not convex."""
    h = objective(geometry, loss)
    generator = torch.Generator().manual_seed(2)
    gaps = []
    for _ in range(pairs):
        first, second = 2 * torch.randn(2, geometry.endpoints, size, generator=generator, dtype=torch.float64)
        share = torch.rand((), generator=generator, dtype=torch.float64)
        chord = (1 - share) * h(first) + share * h(second)
        gaps.append(chord - h((1 - share) * first + share * second))
    return torch.stack(gaps)


def curvatures(geometry: Geometry, loss: Loss, size: int, points: int = 5) -> Tensor:
    """Return the eigenvalues of h's Hessian in all endpoints, at several random ones. Shape (points, m * size)."""
    h = objective(geometry, loss)
    generator = torch.Generator().manual_seed(3)
    length = geometry.endpoints * size
    found = []
    for _ in range(points):
        omega = torch.randn(length, generator=generator, dtype=torch.float64)
        hessian = torch.func.hessian(lambda flat: h(flat.view(geometry.endpoints, size)))(omega)
        found.append(torch.linalg.eigvalsh(hessian))
    return torch.stack(found)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.name)
@pytest.mark.parametrize(("loss", "size"), [(logistic, FEATURES * CLASSES), (squared, FEATURES)])
def test_a_convex_loss_gives_a_convex_objective(geometry: Geometry, loss: Loss, size: int) -> None:
    gaps = chord_gaps(geometry, loss, size)
    assert gaps.min() >= -1e-12
    assert gaps.max() > 0.1
    eigenvalues = curvatures(geometry, loss, size)
    assert eigenvalues.min() >= -1e-10
    assert eigenvalues.max() > 0.01


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.name)
def test_the_hessian_of_least_squares_is_that_of_one_network_times_the_coefficients(geometry: Geometry) -> None:
    h = objective(geometry, squared)
    omega = torch.zeros(geometry.endpoints * FEATURES, dtype=torch.float64)
    hessian = torch.func.hessian(lambda flat: h(flat.view(geometry.endpoints, FEATURES)))(omega)
    coefficients = torch.from_numpy(geometry.coefficients_of(geometry.sample(np.random.default_rng(1), PLACES)))
    of_one = 2 * INPUTS.T @ INPUTS / EXAMPLES
    expected = torch.kron(coefficients.T @ coefficients / PLACES, of_one)
    torch.testing.assert_close(hessian, expected, rtol=1e-10, atol=1e-12)
    # Endpoints in general position leave no direction flat: there is one best subspace.
    assert torch.linalg.eigvalsh(hessian).min() > 1e-3


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.name)
def test_a_loss_that_is_not_convex_gives_an_objective_that_is_not(geometry: Geometry) -> None:
    """The control: both checks fail where the proposition's condition does."""
    h = objective(geometry, two_layers)
    good = TEACHER.expand(geometry.endpoints, -1)
    assert h(good).item() == pytest.approx(0, abs=1e-20)
    assert h(-good).item() == pytest.approx(0, abs=1e-20)
    # Half way between two perfect subspaces lies the network that answers nothing.
    between = h((good + -good) / 2)
    assert between.item() == pytest.approx(_one_unit(TEACHER).square().mean().item())
    assert between > 0.5
    assert curvatures(geometry, two_layers, len(TEACHER)).min() < -0.01
