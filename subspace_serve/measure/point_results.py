"""How good one network or ensemble is on one set of images, as objects and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subspace_serve.measure.networks import Candidate
from subspace_serve.space.ensemble import Ensemble
from subspace_serve.space.place import Alpha, place_from_json

Metrics = Mapping[str, float]
"""`accuracy`, `ece` (fractions), `nll` (nats) and `brier`."""

Bins = Sequence[Mapping[str, Any]]
"""Equal bins of confidence over [0, 1], each with the mean `confidence`, the `accuracy` and the `count` of images."""

Document = Mapping[str, Any]
"""JSON values, from memory or from a file."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How good one network or ensemble is on one set of images.

    Attributes:
        metrics: of its answers.
        reliability: its reliability diagram, where one was asked for.
        relative_change: of its accuracy from the clean images to these corrupted ones (appendix G).
    """

    metrics: Metrics
    reliability: Bins | None = None
    relative_change: float | None = None

    @property
    def accuracy(self) -> float:
        """The fraction of the images whose most probable class is the label."""
        return self.metrics["accuracy"]


@dataclass(frozen=True, kw_only=True)
class Point(Result):
    """The network at one place, and on a line or curve (`ensemble`) P(alpha) and P(1 - alpha) averaged."""

    alpha: Alpha
    ensemble: Metrics | None = None

    @classmethod
    def from_json(cls, document: Document) -> Point:
        """Read what `to_json` returns."""
        return cls(
            alpha=place_from_json(document["alpha"]),
            metrics=document["metrics"],
            reliability=document.get("reliability"),
            ensemble=document.get("ensemble"),
            relative_change=document.get("relative_change"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the point as JSON values."""
        return {"alpha": self.alpha, "metrics": self.metrics} | given(
            reliability=self.reliability, ensemble=self.ensemble, relative_change=self.relative_change
        )


@dataclass(frozen=True, kw_only=True)
class NamedResult(Result):
    """A point or ensemble that was measured under a name, besides the list of places."""

    candidate: Candidate

    @classmethod
    def from_json(cls, document: Document) -> NamedResult:
        """Read what `to_json` returns."""
        return cls(candidate=candidate_from_json(document), metrics=document["metrics"])

    def to_json(self) -> dict[str, Any]:
        """Return what answers, and its metrics, as JSON values."""
        return self.candidate.to_json() | {"metrics": self.metrics}


@dataclass(frozen=True, kw_only=True)
class EndpointsEnsemble(Result):
    """The ends averaged together, and the mean total variation between them (appendix E)."""

    members: tuple[Alpha, ...]
    total_variation: float | None = None

    @classmethod
    def from_json(cls, document: Document) -> EndpointsEnsemble:
        """Read what `to_json` returns."""
        return cls(
            members=_places(document),
            metrics=document["metrics"],
            total_variation=document.get("total_variation"),
            reliability=document.get("reliability"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the ensemble as JSON values."""
        return {"members": list(self.members), "metrics": self.metrics} | given(
            total_variation=self.total_variation, reliability=self.reliability
        )


def candidate_from_json(document: Document) -> Candidate:
    """Read what `Ensemble.to_json` writes for places, as in evaluations and selections."""
    if "alpha" in document:
        return Ensemble.point(place_from_json(document["alpha"]))
    weights = tuple(document["weights"]) if "weights" in document else None
    return Ensemble(_places(document), weights, document.get("aggregate", "probabilities"))


def _places(document: Document) -> tuple[Alpha, ...]:
    return tuple(map(place_from_json, document.get("members", ())))


def given(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {key: value for key, value in values.items() if value is not None}
