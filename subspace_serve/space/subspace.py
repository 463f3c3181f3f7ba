"""A trained subspace: endpoints in weight space, and the weights between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from subspace_serve.errors import CheckpointError
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha
from subspace_serve.suggestions import listed

Weights = Mapping[str, np.ndarray]
"""Arrays of one network by name, mostly its trained parameters; BatchNorm's running statistics are never among them."""


@dataclass(frozen=True)
class Subspace:
    """A geometry, an architecture, and one full set of weights for each endpoint.

    Attributes:
        geometry: how a place alpha turns into coefficients of the endpoints.
        architecture: of the networks that the weights belong to.
        endpoints: the weights; all have the architecture's parameter names, shapes and types.
        buffers: state that all its networks share and that building a new one does not reproduce, by name: frozen
            parameters, and buffers that were drawn at random.
        provenance: how it came to be (data, preprocessing, labels, training configuration, versions), as JSON values.
    """

    geometry: Geometry
    architecture: Architecture
    endpoints: tuple[Weights, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    buffers: Weights = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.endpoints) != self.geometry.endpoints:
            raise CheckpointError(
                f"a {self.geometry.name} of {self.geometry.endpoints} endpoints was given {len(self.endpoints)}"
            )

    def weights(self, alpha: Alpha, *, extrapolate: bool = False) -> dict[str, np.ndarray]:
        """Return P(alpha) = sum of c_i(alpha) * omega_i, parameter by parameter (section 3).

        At an end this is that endpoint, bit for bit.

        Raises:
            GeometryError: alpha lies outside the domain or has the wrong length.
        """
        coefficients = self.geometry.coefficients(alpha, extrapolate=extrapolate)
        return mixture(coefficients, self.endpoints)

    def endpoint_distances(self) -> list[dict[str, Any]]:
        """Return, for each pair of endpoints, their L2 distance and squared cosine similarity.

        Both are over the weights with two or more dimensions (convolutions and linear layers): BatchNorm's parameters
        have no direction worth comparing (appendix D.3).
        """
        return distances(
            [
                np.concatenate([array.reshape(-1) for array in endpoint.values() if array.ndim >= 2])
                for endpoint in self.endpoints
            ]
        )

    def provenance_value(self, *keys: str) -> Any:
        """Return one value of the provenance.

        Raises:
            CheckpointError: it was not recorded.
        """
        value: Any = self.provenance
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                raise CheckpointError(f"the checkpoint does not record {'.'.join(keys)}, which is needed here")
            value = value[key]
        return value

    @property
    def unfinished_training(self) -> tuple[int, int] | None:
        """How many epochs were done, and how many planned, for a run that is not complete; else None."""
        training = self.provenance.get("training", {})
        finished, planned = training.get("finished_epochs"), training.get("planned_epochs", training.get("epochs"))
        if finished is None or planned is None or finished >= planned:
            return None
        return finished, planned


def weighted_sum(coefficients: Iterable[float], arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Return sum of c_i * a_i in the arrays' own type, leaving out terms whose coefficient is exactly zero."""
    terms = [(array.dtype.type(c), array) for c, array in zip(coefficients, arrays, strict=True) if c != 0]
    total = np.asarray(terms[0][0] * terms[0][1])
    for coefficient, array in terms[1:]:
        total += coefficient * array
    return total


def mixture(coefficients: Sequence[float] | np.ndarray, members: Sequence[Weights]) -> dict[str, np.ndarray]:
    """Return the weighted sum of several networks' weights, parameter by parameter."""
    return {name: weighted_sum(coefficients, [member[name] for member in members]) for name in members[0]}


def distances(vectors: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Return, for each pair of vectors of shape (n,), their L2 distance and squared cosine similarity.

    The similarity is 0 where a vector is, which has no direction.
    """
    found = []
    for (i, first), (j, second) in itertools.combinations(enumerate(v.astype(np.float64) for v in vectors), 2):
        norms = max(np.linalg.norm(first) * np.linalg.norm(second), np.finfo(np.float64).tiny)
        cosine = float(first @ second / norms)
        found.append({"pair": [i, j], "l2": float(np.linalg.norm(first - second)), "cosine_squared": cosine**2})
    return found


def mismatch(found: Weights, expected: Weights) -> str | None:
    """Return the first way in which two sets of weights differ in names, shapes or types; None when they do not."""
    missing = [name for name in expected if name not in found]
    excess = [name for name in found if name not in expected]
    if missing or excess:
        parts = [f"missing {listed(missing, 3)}"] * bool(missing) + [f"unknown {listed(excess, 3)}"] * bool(excess)
        return "; ".join(parts)
    for name, array in expected.items():
        if found[name].shape != array.shape:
            return f"{name} has shape {tuple(found[name].shape)}, expected {tuple(array.shape)}"
        if found[name].dtype != array.dtype:
            return f"{name} has type {found[name].dtype}, expected {array.dtype}"
    return None
