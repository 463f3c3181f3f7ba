"""The results of an evaluation, as objects and as the JSON that `evaluate --json` writes and `report` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from subspace_serve.measure.networks import Candidate
from subspace_serve.space.ensemble import Ensemble
from subspace_serve.space.place import Alpha, is_end, is_midpoint, place_from_json

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
        return {"alpha": self.alpha, "metrics": self.metrics} | _given(
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
        return {"members": list(self.members), "metrics": self.metrics} | _given(
            total_variation=self.total_variation, reliability=self.reliability
        )


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """All that was measured on one set of images.

    Attributes:
        points: the places, in the order in which they were asked for; at least one.
        ensembles: those that were asked for, by name.
        recommended: the models of the run's recommended use, by name.
        endpoints_ensemble: the ends averaged.
        baseline: a standard network.
    """

    points: tuple[Point, ...]
    ensembles: Mapping[str, NamedResult] = field(default_factory=dict)
    recommended: Mapping[str, NamedResult] = field(default_factory=dict)
    endpoints_ensemble: EndpointsEnsemble | None = None
    baseline: Result | None = None

    @property
    def ordered(self) -> list[Point]:
        """The points: sorted by alpha on a line or curve, in their own order on a simplex."""
        if any(isinstance(point.alpha, Sequence) for point in self.points):
            return list(self.points)
        return sorted(self.points, key=lambda point: point.alpha)  # type: ignore[arg-type, return-value]

    @property
    def midpoint(self) -> Point | None:
        """The midpoint, where it was measured."""
        return next((point for point in self.points if is_midpoint(point.alpha)), None)

    @property
    def ends(self) -> list[Point]:
        """The points that coincide with an endpoint; a single network's only place is its midpoint and no end."""
        return [point for point in self.points if is_end(point.alpha) and not is_midpoint(point.alpha)]

    @property
    def best(self) -> Point:
        """The point with the highest accuracy."""
        return max(self.points, key=lambda point: point.accuracy)

    @property
    def has_pairs(self) -> bool:
        """Whether every place was also measured together with its opposite."""
        return all(point.ensemble for point in self.points)

    def _measured(self) -> dict[str, Any]:
        """Return points and ensembles as JSON values."""
        document: dict[str, Any] = {"points": [point.to_json() for point in self.points]}
        for key, named in (("ensembles", self.ensembles), ("recommended", self.recommended)):
            if named:
                document[key] = {name: result.to_json() for name, result in named.items()}
        if self.endpoints_ensemble is not None:
            document["endpoints_ensemble"] = self.endpoints_ensemble.to_json()
        return document


@dataclass(frozen=True, kw_only=True)
class CorruptedSet(ImageSet):
    """The same on corrupted images; each point, and the baseline, has its relative change."""

    corruption: str
    severity: int

    @classmethod
    def from_json(cls, document: Document) -> CorruptedSet:
        """Read what `to_json` returns."""
        baseline = document.get("baseline")
        return cls(
            corruption=document["corruption"],
            severity=document["severity"],
            baseline=Result(**baseline) if baseline else None,
            **_parts(document),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the set as JSON values."""
        document = {"corruption": self.corruption, "severity": self.severity, **self._measured()}
        if self.baseline is not None:
            change = self.baseline.relative_change
            document["baseline"] = {"metrics": self.baseline.metrics, "relative_change": change}
        return document


@dataclass(frozen=True, kw_only=True)
class DomainSet(ImageSet):
    """The same networks on the images of one of several domains.

    Attributes:
        name: of the domain.
        data: the images' name.
        count: how many images.
    """

    name: str
    data: str
    count: int

    @classmethod
    def from_json(cls, document: Document) -> DomainSet:
        """Read what `to_json` returns."""
        return cls(name=document["name"], data=document["data"], count=document["count"], **_parts(document))

    def to_json(self) -> dict[str, Any]:
        """Return the set as JSON values."""
        return {"name": self.name, "data": self.data, "count": self.count, **self._measured()}


@dataclass(frozen=True)
class MeanCorruptionError:
    """Errors on corrupted images, mean over severities and then over types.

    Attributes:
        points: of each point.
        normalised: of each point, its error summed over severities divided by the baseline's, mean over types
            (Hendrycks & Dietterich 2019, section 3); None without a baseline, or where it makes no errors on a type.
        baseline: of the standard network.
    """

    points: tuple[float, ...]
    normalised: tuple[float, ...] | None = None
    baseline: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation(ImageSet):
    """What was measured on clean images, how, and the same on corrupted ones.

    Attributes:
        geometry: the subspace's.
        count: how many images.
        aggregate: ensembles average `probabilities` or `logits`.
        calibration: the record of the images that BatchNorm's statistics are from.
        endpoint_distances: `pair`, `l2` and `cosine_squared` for each pair of endpoints.
        corruptions: the results on the same images, corrupted.
        domains: the results on several domains, where they were asked for; the evaluation's own are of the first.
        data: the images' specification.
        checkpoint_sha256: of the run.
        use: the run's recommended use.
    """

    geometry: str
    count: int
    aggregate: str | None = None
    calibration: Document = field(default_factory=dict)
    endpoint_distances: Sequence[Document] = ()
    corruptions: tuple[CorruptedSet, ...] = ()
    domains: tuple[DomainSet, ...] = ()
    data: str | None = None
    checkpoint_sha256: str | None = None
    use: tuple[str, ...] = ()

    @property
    def mean_corruption_error(self) -> MeanCorruptionError | None:
        """The errors over all corruptions; None where none were measured."""
        if not self.corruptions:
            return None
        severities: dict[str, int] = {}
        for entry in self.corruptions:
            severities[entry.corruption] = severities.get(entry.corruption, 0) + 1

        def summed(accuracy: Callable[[CorruptedSet], float]) -> dict[str, float]:
            """The error summed over severities, by type."""
            sums = dict.fromkeys(severities, 0.0)
            for entry in self.corruptions:
                sums[entry.corruption] = sums[entry.corruption] + 1 - accuracy(entry)
            return sums

        def mean(sums: Mapping[str, float]) -> float:
            return float(np.mean([total / severities[name] for name, total in sums.items()]))

        points = [summed(lambda entry, at=at: entry.points[at].accuracy) for at in range(len(self.points))]  # type: ignore[misc]
        errors = tuple(map(mean, points))
        if any(entry.baseline is None for entry in self.corruptions):
            return MeanCorruptionError(errors)
        standard = summed(lambda entry: entry.baseline.accuracy if entry.baseline else 0.0)
        normalised = None
        if all(standard.values()):
            normalised = tuple(float(np.mean([sums[name] / standard[name] for name in sums])) for sums in points)
        return MeanCorruptionError(errors, normalised, mean(standard))

    def with_baseline(self, standard: Evaluation) -> Evaluation:
        """Return the evaluation with a standard network's results on the same images, clean and corrupted, added."""
        corruptions = [
            replace(entry, baseline=other.points[0])
            for entry, other in zip(self.corruptions, standard.corruptions, strict=True)
        ]
        return replace(self, baseline=standard.points[0], corruptions=tuple(corruptions))

    @classmethod
    def from_json(cls, document: Document) -> Evaluation:
        """Read what `to_json` returns; derived values are computed again.

        Raises:
            KeyError, TypeError, AttributeError: something is missing or of another type.
        """
        baseline = document.get("baseline")
        return cls(
            geometry=document["geometry"],
            count=document["count"],
            aggregate=document.get("aggregate"),
            calibration=document.get("calibration") or {},
            endpoint_distances=document.get("endpoint_distances") or (),
            corruptions=tuple(map(CorruptedSet.from_json, document.get("corruptions") or ())),
            domains=tuple(map(DomainSet.from_json, document.get("domains") or ())),
            data=document.get("data"),
            checkpoint_sha256=document.get("checkpoint_sha256"),
            use=tuple(document.get("use") or ()),
            baseline=Result(metrics=baseline, reliability=document.get("baseline_reliability")) if baseline else None,
            **_parts(document),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the document that `evaluate --json` writes."""
        document = {
            "geometry": self.geometry,
            "count": self.count,
            "aggregate": self.aggregate,
            "calibration": self.calibration,
            "endpoint_distances": list(self.endpoint_distances),
            **self._measured(),
        }
        errors = self.mean_corruption_error
        if errors is not None:
            document["corruptions"] = [entry.to_json() for entry in self.corruptions]
            points = [
                {"alpha": point.alpha, "error": error} for point, error in zip(self.points, errors.points, strict=True)
            ]
            for entry, normalised in zip(points, errors.normalised or (), strict=False):
                entry["normalised"] = normalised
            document["mean_corruption_error"] = {"points": points}
            if errors.baseline is not None:
                document["mean_corruption_error"]["baseline"] = {"error": errors.baseline}
        if self.domains:
            document["domains"] = [entry.to_json() for entry in self.domains]
        document |= _given(data=self.data, checkpoint_sha256=self.checkpoint_sha256)
        if self.baseline is not None:
            reliability = self.baseline.reliability
            document |= {"baseline": self.baseline.metrics} | _given(baseline_reliability=reliability)
        return document | ({"use": list(self.use)} if self.use else {})


def candidate_from_json(document: Document) -> Candidate:
    """Read what `Ensemble.to_json` writes for places, as in evaluations and selections."""
    if "alpha" in document:
        return Ensemble.point(place_from_json(document["alpha"]))
    weights = tuple(document["weights"]) if "weights" in document else None
    return Ensemble(_places(document), weights, document.get("aggregate", "probabilities"))


def _parts(document: Document) -> dict[str, Any]:
    """Read the points and ensembles of one set of images."""
    ends = document.get("endpoints_ensemble")
    return {
        "points": tuple(map(Point.from_json, document["points"])),
        "endpoints_ensemble": EndpointsEnsemble.from_json(ends) if ends else None,
    } | {
        key: {name: NamedResult.from_json(entry) for name, entry in (document.get(key) or {}).items()}
        for key in ("ensembles", "recommended")
    }


def _places(document: Document) -> tuple[Alpha, ...]:
    return tuple(map(place_from_json, document.get("members", ())))


def _given(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {key: value for key, value in values.items() if value is not None}
