"""The results of an evaluation, as objects and as the JSON that `evaluate --json` writes and `report` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from subspace_serve.measure.image_sets import (
    CorruptedSet,
    DomainSet,
    ImageSet,
    MeanCorruptionError,
    mean_corruption_error,
    parts_from_json,
)
from subspace_serve.measure.point_results import Document, Result, given


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
        return mean_corruption_error(self.corruptions) if self.corruptions else None

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
            **parts_from_json(document),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the document that `evaluate --json` writes."""
        document = {
            "geometry": self.geometry,
            "count": self.count,
            "aggregate": self.aggregate,
            "calibration": self.calibration,
            "endpoint_distances": list(self.endpoint_distances),
            **self.measured_json(),
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
        document |= given(data=self.data, checkpoint_sha256=self.checkpoint_sha256)
        if self.baseline is not None:
            reliability = self.baseline.reliability
            document |= {"baseline": self.baseline.metrics} | given(baseline_reliability=reliability)
        return document | ({"use": list(self.use)} if self.use else {})
