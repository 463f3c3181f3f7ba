"""All that an evaluation measured on one set of images, clean, corrupted or of a domain, as objects and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from subspace_serve.measure.point_results import Document, EndpointsEnsemble, NamedResult, Point, Result
from subspace_serve.space.place import is_end, is_midpoint


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

    def measured_json(self) -> dict[str, Any]:
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
    """The same on corrupted images; each point, and the baseline, has its relative change.

    Attributes:
        corruption: its type.
        severity: from 1 to 5; None in a set that has each type once (MNIST-C).
    """

    corruption: str
    severity: int | None

    @classmethod
    def from_json(cls, document: Document) -> CorruptedSet:
        """Read what `to_json` returns."""
        baseline = document.get("baseline")
        return cls(
            corruption=document["corruption"],
            severity=document["severity"],
            baseline=Result(**baseline) if baseline else None,
            **parts_from_json(document),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the set as JSON values."""
        document = {"corruption": self.corruption, "severity": self.severity, **self.measured_json()}
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
        return cls(name=document["name"], data=document["data"], count=document["count"], **parts_from_json(document))

    def to_json(self) -> dict[str, Any]:
        """Return the set as JSON values."""
        return {"name": self.name, "data": self.data, "count": self.count, **self.measured_json()}


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


def mean_corruption_error(corruptions: Sequence[CorruptedSet]) -> MeanCorruptionError:
    """Return the errors over all corruptions, of which there is at least one."""
    types = np.array([entry.corruption for entry in corruptions])

    def by_type(accuracies: Sequence[Any]) -> np.ndarray:
        """Return the error of each type, mean over its severities, (types, ...), of each corruption's accuracies."""
        errors = 1 - np.array(accuracies)
        return np.array([errors[types == name].mean(axis=0) for name in dict.fromkeys(types)])

    points = by_type([[point.accuracy for point in entry.points] for entry in corruptions])
    errors = tuple(points.mean(axis=0).tolist())
    baselines = [entry.baseline.accuracy for entry in corruptions if entry.baseline is not None]
    if len(baselines) < len(corruptions):
        return MeanCorruptionError(errors)
    standard = by_type(baselines)
    normalised = tuple((points / standard[:, np.newaxis]).mean(axis=0).tolist()) if standard.all() else None
    return MeanCorruptionError(errors, normalised, float(standard.mean()))


def parts_from_json(document: Document) -> dict[str, Any]:
    """Read the points and ensembles of one set of images."""
    ends = document.get("endpoints_ensemble")
    return {
        "points": tuple(map(Point.from_json, document["points"])),
        "endpoints_ensemble": EndpointsEnsemble.from_json(ends) if ends else None,
    } | {
        key: {name: NamedResult.from_json(entry) for name, entry in (document.get(key) or {}).items()}
        for key in ("ensembles", "recommended")
    }
