"""How good the networks of a subspace are, alone and in ensembles, on clean and on corrupted images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from subspace_serve.answers import softmax
from subspace_serve.data import Images
from subspace_serve.data.domains import Domain
from subspace_serve.measure.metrics import Scores, mean_total_variation
from subspace_serve.measure.networks import Candidate, Networks, StatisticsSource, check_labels, scored
from subspace_serve.network.network import Network
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha, place

DEFAULT_POINTS = 11

Document = dict[str, Any]


def default_alphas(geometry: Geometry, points: int = DEFAULT_POINTS) -> list[Alpha]:
    """Return evenly spaced places of a line or curve; the vertices and the midpoint of a simplex."""
    if geometry.barycentric:
        return list(dict.fromkeys([*geometry.ends, geometry.midpoint]))
    return [float(alpha) for alpha in np.linspace(0, 1, points).round(10)]


def evaluate(
    network: Network,
    images: Images,
    *,
    calibration: StatisticsSource,
    alphas: Sequence[Alpha] | None = None,
    ensembles: bool = True,
    named: Mapping[str, Candidate] | None = None,
    aggregate: str = "probabilities",
    extrapolate: bool = False,
    corrupted: Iterable[Domain] = (),
    reliability: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Document:
    """Evaluate networks along a subspace and the ensembles that they form (sections 4.1, 4.2 and 4.4).

    Args:
        network: the subspace that is evaluated.
        images: labelled images.
        calibration: images from which each network's BatchNorm statistics are recomputed.
        alphas: the places; by default 11 along a line or curve, the vertices and the midpoint of a simplex.
        ensembles: measure ensembles too, which needs the opposite of each place and the ends.
        named: further ensembles by name, such as selected ones, with members, weights and aggregate of their own.
        aggregate: ensembles average `probabilities` or `logits`.
        extrapolate: allow places a little outside a line.
        corrupted: corruptions of the same images; the networks are those of the clean images.
        reliability: add reliability diagrams to points and ensembles, 15 bins of `confidence`, `accuracy`, `count`.
        progress: called with a line for each network and each corruption.

    Returns:
        A document of JSON values: `geometry`, `count`, `aggregate`, `calibration`, `endpoint_distances`; `points`,
        each with `alpha`, `metrics` (accuracy, nll, ece, brier) and, for lines and curves, `ensemble`, the metrics of
        P(alpha) and P(1 - alpha) averaged in output space; `endpoints_ensemble`, the metrics of the ends averaged
        together and the mean total variation between them; `ensembles`, the metrics of the named ones. With
        corruptions also `corruptions`, each with `corruption`, `severity`, and points and ensembles as above, a point
        with `relative_change` of its accuracy, (b - a)/a from clean a to corrupted b (appendix G); and
        `mean_corruption_error`.

    Raises:
        GeometryError: a place lies outside the domain.
        DataError: there are no images, or a label is not one of the network's classes.
    """
    geometry = network.geometry
    check_labels(images, network.classes)
    places = [
        geometry.check(alpha, extrapolate=extrapolate)
        for alpha in (default_alphas(geometry) if alphas is None else alphas)
    ]
    networks = Networks(network, calibration, extrapolate=extrapolate, progress=progress)
    plan = _Plan(geometry, places, aggregate, ensembles, named or {})
    document: Document = {
        "geometry": geometry.name,
        "count": len(images),
        "aggregate": aggregate,
        "calibration": calibration.to_json(),
        "endpoint_distances": network.endpoint_distances(),
        **plan.measure(networks, images, reliability),
    }
    corruptions = []
    for domain in corrupted:
        measured = plan.measure(networks, domain.images, reliability=False)
        for point, clean in zip(measured["points"], document["points"], strict=True):
            point["relative_change"] = relative_change(clean["metrics"]["accuracy"], point["metrics"]["accuracy"])
        corruptions.append(
            {"corruption": domain.record["corruption"], "severity": domain.record["severity"], **measured}
        )
        progress(domain.name)
    if corruptions:
        document["corruptions"] = corruptions
        document["mean_corruption_error"] = _mean_corruption_error(document)
    return document


def with_baseline(document: Document, baseline: Document) -> Document:
    """Return an evaluation beside that of one standard network on the same images.

    Adds `baseline`, its metrics, and `baseline_reliability`; to each corruption `baseline`, its metrics and relative
    change; and to the mean corruption error that of the baseline and, for each point, `normalised`: errors summed over
    severities in proportion to the baseline's, mean over types (Hendrycks & Dietterich 2019, section 3).
    """
    standard = baseline["points"][0]
    compared = document | {"baseline": standard["metrics"]}
    if "reliability" in standard:
        compared["baseline_reliability"] = standard["reliability"]
    if "corruptions" in document:
        compared["corruptions"] = [
            corruption | {"baseline": {key: other["points"][0][key] for key in ("metrics", "relative_change")}}
            for corruption, other in zip(document["corruptions"], baseline["corruptions"], strict=True)
        ]
        compared["mean_corruption_error"] = _mean_corruption_error(compared)
    return compared


def relative_change(clean: float, corrupted: float) -> float:
    """Return (b - a)/a from an accuracy a on clean to b on corrupted images (appendix G); 0 where a is 0."""
    return (corrupted - clean) / clean if clean else 0.0


class _Plan:
    """What is measured on every set of images: points, pairs with their opposites, and the ends together."""

    def __init__(
        self,
        geometry: Geometry,
        places: Sequence[Alpha],
        aggregate: str,
        ensembles: bool,
        named: Mapping[str, Candidate],
    ) -> None:
        self.places = places
        self.named = named
        self.points = [Candidate.point(alpha) for alpha in places]
        opposites = [geometry.opposite(alpha) if ensembles else None for alpha in places]
        self.pairs = [
            None if opposite is None else Candidate((alpha, opposite), aggregate=aggregate)
            for alpha, opposite in zip(places, opposites, strict=True)
        ]
        several = ensembles and geometry.endpoints > 1
        self.ends = Candidate(tuple(geometry.ends), aggregate=aggregate) if several else None

    def measure(self, networks: Networks, images: Images, reliability: bool) -> Document:
        candidates = [
            candidate
            for candidate in (*self.points, *self.pairs, self.ends, *self.named.values())
            if candidate is not None
        ]
        candidates = list(dict.fromkeys(candidates))

        def answer(candidate: Candidate, logits: dict[Alpha, np.ndarray], labels: np.ndarray) -> tuple[Scores, float]:
            total = len(labels) * _disagreement(candidate, logits) if candidate == self.ends else 0.0
            return scored(candidate, logits, labels), total

        parts = dict(zip(candidates, networks.measure(candidates, images, answer), strict=True))
        scores = {candidate: Scores.joined([part for part, _ in found]) for candidate, found in parts.items()}

        points = []
        for alpha, point, pair in zip(self.places, self.points, self.pairs, strict=True):
            entry: Document = {"alpha": alpha, "metrics": scores[point].metrics()}
            if reliability:
                entry["reliability"] = scores[point].reliability()
            if pair is not None:
                entry["ensemble"] = scores[pair].metrics()
            points.append(entry)
        document: Document = {"points": points}
        if self.named:
            document["ensembles"] = {
                name: candidate.to_json() | {"metrics": scores[candidate].metrics()}
                for name, candidate in self.named.items()
            }
        if self.ends is not None:
            document["endpoints_ensemble"] = {
                "members": list(self.ends.members),
                "metrics": scores[self.ends].metrics(),
                "total_variation": sum(total for _, total in parts[self.ends]) / len(images),
            }
            if reliability:
                document["endpoints_ensemble"]["reliability"] = scores[self.ends].reliability()
        return document


def _disagreement(candidate: Candidate, logits: dict[Alpha, np.ndarray]) -> float:
    """Return the members' total variation, mean over pairs of them and over images (appendix E)."""
    probabilities = [softmax(logits[place(alpha)]) for alpha in candidate.members]
    distances = [mean_total_variation(a, b) for a, b in itertools.combinations(probabilities, 2)]
    return sum(distances) / len(distances)


def _mean_corruption_error(document: Document) -> Document:
    """Return each point's error, mean over severities and then over types; in proportion to a baseline if there."""
    corruptions = document["corruptions"]

    def errors(pick: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> dict[str, float]:
        """The error summed over severities, by type."""
        sums: dict[str, float] = {}
        for corruption in corruptions:
            name = corruption["corruption"]
            sums[name] = sums.get(name, 0.0) + 1 - pick(corruption)["metrics"]["accuracy"]
        return sums

    severities: dict[str, int] = {}
    for corruption in corruptions:
        severities[corruption["corruption"]] = severities.get(corruption["corruption"], 0) + 1

    def mean(sums: Mapping[str, float]) -> float:
        return float(np.mean([total / severities[name] for name, total in sums.items()]))

    baseline = errors(lambda corruption: corruption["baseline"]) if "baseline" in corruptions[0] else None
    points = []
    for index, point in enumerate(document["points"]):
        sums = errors(lambda corruption, index=index: corruption["points"][index])  # type: ignore[misc]
        entry = {"alpha": point["alpha"], "error": mean(sums)}
        if baseline is not None and all(baseline.values()):
            entry["normalised"] = float(np.mean([sums[name] / baseline[name] for name in sums]))
        points.append(entry)
    return {"points": points} | ({"baseline": {"error": mean(baseline)}} if baseline is not None else {})
