"""Whether networks can be mixed: how much worse the places between them are than the networks themselves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace_serve.data import Images
from subspace_serve.measure.evaluation import default_alphas, evaluate
from subspace_serve.measure.networks import StatisticsSource
from subspace_serve.network.network import Network
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha, place, place_from_json

CONNECTED = 0.02
"""The largest barrier in accuracy at which networks count as linearly connected (Frankle et al. 2020, section 2)."""
_MOST_FACES = 4
"""Up to so many endpoints every face of a simplex is measured; beyond that only its edges and the whole."""


@dataclass(frozen=True)
class Barrier:
    """How good the sources and the places between them are.

    The barrier is the most by which a place is worse than the mean of the sources, weighted as the place lies between
    them (Entezari et al. 2022, equation 1); it is at least 0.

    Attributes:
        points: places and their metrics, the sources included.
        accuracy: the barrier in accuracy, a fraction.
        nll: the barrier in negative log-likelihood, nats.
        at: the place where the accuracy falls short the most.
        images: how many images it was measured on.
        data: what the images are.
    """

    points: Sequence[tuple[Alpha, Mapping[str, float]]]
    accuracy: float
    nll: float
    at: Alpha
    images: int
    data: str

    @property
    def connected(self) -> bool:
        """Whether the sources can be mixed."""
        return self.accuracy <= CONNECTED

    def to_json(self) -> dict[str, Any]:
        """Return the barrier as JSON values."""
        points = [{"alpha": alpha, "metrics": dict(metrics)} for alpha, metrics in self.points]
        return {**vars(self), "points": points, "connected": self.connected}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Barrier:
        """Read what `to_json` returns."""
        points = [(place_from_json(point["alpha"]), point["metrics"]) for point in document["points"]]
        rest = {name: document[name] for name in ("accuracy", "nll", "images", "data")}
        return cls(points, at=place_from_json(document["at"]), **rest)


def barrier_places(geometry: Geometry) -> list[Alpha]:
    """Return the default places along a line or curve; for a simplex its ends and the centres of edges and faces."""
    if not geometry.barycentric:
        return default_alphas(geometry)
    count = geometry.endpoints
    sizes = range(1, count + 1) if count <= _MOST_FACES else (1, 2, count)
    faces = [face for size in sizes for face in itertools.combinations(range(count), size)]
    return [place(tuple(float(i in face) / len(face) for i in range(count))) for face in faces]


def measure_barrier(
    network: Network,
    images: Images,
    calibration: StatisticsSource,
    *,
    data: str,
    progress: Callable[[str], None] = lambda line: None,
) -> Barrier:
    """Measure the endpoints and places between them, each with BatchNorm statistics of its own.

    Args:
        network: the subspace.
        images: labelled images.
        calibration: gives the statistics.
        data: what the images are, for the record.
        progress: called with a line for each network.

    Raises:
        DataError: there are no images, or they have other classes.
    """
    geometry = network.geometry
    evaluation = evaluate(
        network,
        images,
        calibration=calibration,
        alphas=barrier_places(geometry),
        ensembles=False,
        progress=progress,
    )
    metrics = {point.alpha: point.metrics for point in evaluation.points}
    accuracy = {
        alpha: _expected(geometry, metrics, alpha, "accuracy") - metrics[alpha]["accuracy"] for alpha in metrics
    }
    nll = [metrics[alpha]["nll"] - _expected(geometry, metrics, alpha, "nll") for alpha in metrics]
    at = max(accuracy, key=lambda alpha: accuracy[alpha])
    return Barrier(list(metrics.items()), max(accuracy[at], 0.0), max(*nll, 0.0), at, len(images), data)


def _expected(geometry: Geometry, metrics: Mapping[Alpha, Mapping[str, float]], alpha: Alpha, name: str) -> float:
    """Return the mean of the ends' metrics, weighted as a place lies between them."""
    shares = np.asarray(alpha if geometry.barycentric else (1 - float(alpha), alpha))  # type: ignore[arg-type]
    return float(shares @ [metrics[end][name] for end in geometry.ends])
