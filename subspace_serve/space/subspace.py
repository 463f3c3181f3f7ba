"""A trained subspace: endpoints in weight space, and the networks between them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from subspace_serve.architectures import Architecture
from subspace_serve.errors import CheckpointError
from subspace_serve.space.geometry import Alpha, Geometry

Weights = Mapping[str, Tensor]
"""The trainable parameters of one network, by name; BatchNorm's running statistics are not among them."""


@dataclass(frozen=True)
class Subspace:
    """A geometry, an architecture, and one full set of weights an endpoint.

    Attributes:
        geometry: how a place alpha turns into coefficients of the endpoints.
        architecture: builds the network that the weights belong to.
        endpoints: the weights; all have the architecture's parameter names, shapes and types.
        provenance: how it came to be (data, preprocessing, labels, training configuration, versions), as JSON values.
    """

    geometry: Geometry
    architecture: Architecture
    endpoints: tuple[Weights, ...]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.endpoints) != self.geometry.endpoints:
            raise CheckpointError(
                f"a {self.geometry.name} of {self.geometry.endpoints} endpoints was given {len(self.endpoints)}"
            )

    def weights(self, alpha: Alpha, *, extrapolate: bool = False) -> dict[str, Tensor]:
        """Return P(alpha) = sum of c_i(alpha) * omega_i, parameter by parameter (section 3).

        At an end this is that endpoint, bit for bit.

        Raises:
            GeometryError: alpha lies outside the domain or has the wrong length.
        """
        coefficients = self.geometry.coefficients(alpha, extrapolate=extrapolate)
        return {
            name: weighted_sum(coefficients, [endpoint[name] for endpoint in self.endpoints])
            for name in self.endpoints[0]
        }

    def collapse(self, alpha: Alpha, *, extrapolate: bool = False) -> nn.Module:
        """Build the ordinary network with weights P(alpha), in eval mode.

        BatchNorm's running statistics are those of a fresh network (see `trainer.modules.as_module`).

        Raises:
            GeometryError: alpha lies outside the domain or has the wrong length.
            CheckpointError: the weights do not fit the architecture.
        """
        weights = self.weights(alpha, extrapolate=extrapolate)
        model = self.architecture.build()
        load_weights(model, weights)
        return model.eval()


def weighted_sum(coefficients: Any, tensors: list[Tensor]) -> Tensor:
    """Return sum of c_i * t_i, leaving out terms whose coefficient is exactly zero."""
    terms = [(float(c), tensor) for c, tensor in zip(coefficients, tensors, strict=True) if c != 0]
    total = terms[0][1] * terms[0][0]
    for coefficient, tensor in terms[1:]:
        total = total.add_(tensor, alpha=coefficient)
    return total


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's parameters: its coordinates in weight space."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def load_weights(model: nn.Module, weights: Weights) -> None:
    """Copy `weights` into a network's parameters.

    Raises:
        CheckpointError: a name is missing or unknown, or a shape or type differs.
    """
    parameters = dict(model.named_parameters())
    problem = mismatch(weights, parameters)
    if problem:
        raise CheckpointError(f"the weights do not fit the network: {problem}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def mismatch(found: Weights, expected: Weights) -> str | None:
    """Return the first way in which two sets of weights differ in names, shapes or types; None when they do not."""
    missing = [name for name in expected if name not in found]
    excess = [name for name in found if name not in expected]
    if missing or excess:
        parts = [f"missing {_some(missing)}"] * bool(missing) + [f"unknown {_some(excess)}"] * bool(excess)
        return "; ".join(parts)
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            return f"{name} has shape {tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
        if found[name].dtype != tensor.dtype:
            return f"{name} has type {found[name].dtype}, expected {tensor.dtype}"
    return None


def endpoint_distances(endpoints: tuple[Weights, ...]) -> list[dict[str, Any]]:
    """Return, for each pair of endpoints, their L2 distance and squared cosine similarity.

    Both are over the weights with two or more dimensions (convolutions and linear layers): BatchNorm's parameters
    have no direction worth comparing (appendix D.3).
    """
    distances = []
    for (i, first), (j, second) in itertools.combinations(enumerate(endpoints), 2):
        a, b = _direction(first), _direction(second)
        cosine = torch.dot(a, b) / (a.norm() * b.norm())
        distances.append({"pair": [i, j], "l2": (a - b).norm().item(), "cosine_squared": cosine.square().item()})
    return distances


def _direction(weights: Weights) -> Tensor:
    return torch.cat([tensor.detach().flatten().double() for tensor in weights.values() if tensor.dim() >= 2])


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
