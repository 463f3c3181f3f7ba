"""How good the networks of a subspace are, alone and in ensembles, on clean and on corrupted images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from subspace_serve.answers import softmax, total_variation
from subspace_serve.data import Images
from subspace_serve.data.domains import Domain
from subspace_serve.measure.image_sets import CorruptedSet, DomainSet
from subspace_serve.measure.metrics import Scores
from subspace_serve.measure.networks import Candidate, Networks, StatisticsSource, check_labels, check_same, scored
from subspace_serve.measure.point_results import EndpointsEnsemble, NamedResult, Point
from subspace_serve.measure.results import Evaluation
from subspace_serve.network.network import Network
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha, place

DEFAULT_POINTS = 11


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
    recommended: Mapping[str, Candidate] | None = None,
    aggregate: str = "probabilities",
    extrapolate: bool = False,
    corrupted: Iterable[Domain] = (),
    domains: Sequence[Domain] = (),
    reliability: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Evaluate networks along a subspace and the ensembles that they form (sections 4.1, 4.2 and 4.4).

    Args:
        network: the subspace that is evaluated.
        images: labelled images.
        calibration: images from which each network's BatchNorm statistics are recomputed.
        alphas: the places; by default 11 along a line or curve, the vertices and the midpoint of a simplex.
        ensembles: measure ensembles too, which needs the opposite of each place and the ends.
        named: further ensembles by name, such as selected ones, with members, weights and aggregate of their own; that
            of the ends under its own name, `endpoints`, is measured anyway and left out.
        recommended: what the run is meant for, by name; kept apart from `named`.
        aggregate: ensembles average `probabilities` or `logits`.
        extrapolate: allow places a little outside a line.
        corrupted: corruptions of the same images, in any order; the networks are those of the clean images.
        domains: labelled images of several domains, on which the same networks are measured: how what is gained on
            one is lost on another (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). `images` may be
            those of one of them, and are then measured once.
        reliability: add reliability diagrams to points and ensembles, 15 bins of `confidence`, `accuracy`, `count`.
        progress: called with a line for each network and each corruption or domain.

    Returns:
        How good the networks are; with corruptions each point has there its relative change of accuracy.

    Raises:
        GeometryError: a place lies outside the domain.
        DataError: there are no images, a label is not one of the network's classes, or the corrupted images are others.
    """
    geometry = network.geometry
    corrupted = list(corrupted)
    for labelled in (images, *(domain.images for domain in domains)):
        check_labels(labelled, network.classes)
    for domain in corrupted:
        check_same(images, domain)
    places = [
        geometry.check(alpha, extrapolate=extrapolate)
        for alpha in (default_alphas(geometry) if alphas is None else alphas)
    ]
    networks = Networks(network, calibration, extrapolate=extrapolate, progress=progress)
    plan = _Plan(geometry, places, aggregate, ensembles, named or {}, recommended or {})
    measured = plan.measure(networks, images, reliability)
    clean = Evaluation(
        geometry=geometry.name,
        count=len(images),
        aggregate=aggregate,
        calibration=calibration.to_json(),
        endpoint_distances=network.endpoint_distances(),
        **measured,
    )
    corruptions = []
    for domain in corrupted:
        record = domain.record
        entry = CorruptedSet(
            corruption=record["corruption"],
            severity=record["severity"],
            **plan.measure(networks, domain.images, reliability=False),
        )
        points = [
            replace(point, relative_change=relative_change(before.accuracy, point.accuracy))
            for before, point in zip(clean.points, entry.points, strict=True)
        ]
        corruptions.append(replace(entry, points=tuple(points)))
        progress(domain.name)
    on_domains = []
    for domain in domains:
        here = measured if domain.images is images else plan.measure(networks, domain.images, reliability)
        on_domains.append(DomainSet(name=domain.name, data=domain.record["data"], count=len(domain.images), **here))
        progress(domain.name)
    return replace(clean, corruptions=tuple(corruptions), domains=tuple(on_domains))


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
        recommended: Mapping[str, Candidate],
    ) -> None:
        self.places = places
        self.points = [Candidate.point(alpha) for alpha in places]
        opposites = [geometry.opposite(alpha) if ensembles else None for alpha in places]
        self.pairs = [
            None if opposite is None else Candidate((alpha, opposite), aggregate=aggregate)
            for alpha, opposite in zip(places, opposites, strict=True)
        ]
        several = ensembles and geometry.endpoints > 1
        self.ends = Candidate(tuple(geometry.ends), aggregate=aggregate) if several else None
        self.named = {name: model for name, model in named.items() if (name, model) != ("endpoints", self.ends)}
        self.recommended = recommended

    def measure(self, networks: Networks, images: Images, reliability: bool) -> dict[str, Any]:
        """Return the fields of an `ImageSet`."""
        wanted = (*self.points, *self.pairs, self.ends, *self.named.values(), *self.recommended.values())
        candidates = list(dict.fromkeys(candidate for candidate in wanted if candidate is not None))

        def answer(candidate: Candidate, logits: dict[Alpha, np.ndarray], labels: np.ndarray) -> tuple[Scores, float]:
            total = len(labels) * _disagreement(candidate, logits) if candidate == self.ends else 0.0
            return scored(candidate, logits, labels), total

        parts = dict(zip(candidates, networks.measure(candidates, images, answer), strict=True))
        scores = {candidate: Scores.joined([part for part, _ in found]) for candidate, found in parts.items()}
        metrics = {candidate: found.metrics() for candidate, found in scores.items()}
        diagrams = {candidate: found.reliability() for candidate, found in scores.items()} if reliability else {}

        def results(models: Mapping[str, Candidate]) -> dict[str, NamedResult]:
            return {name: NamedResult(candidate=model, metrics=metrics[model]) for name, model in models.items()}

        points = [
            Point(
                alpha=alpha,
                metrics=metrics[point],
                reliability=diagrams.get(point),
                ensemble=None if pair is None else metrics[pair],
            )
            for alpha, point, pair in zip(self.places, self.points, self.pairs, strict=True)
        ]
        together = None
        if self.ends is not None:
            together = EndpointsEnsemble(
                members=self.ends.members,
                metrics=metrics[self.ends],
                total_variation=sum(total for _, total in parts[self.ends]) / len(images),
                reliability=diagrams.get(self.ends),
            )
        return {
            "points": tuple(points),
            "ensembles": results(self.named),
            "recommended": results(self.recommended),
            "endpoints_ensemble": together,
        }


def _disagreement(candidate: Candidate, logits: dict[Alpha, np.ndarray]) -> float:
    """Return the members' total variation, mean over pairs of them and over images (appendix E)."""
    probabilities = [softmax(logits[place(alpha)]) for alpha in candidate.members]
    distances = [float(total_variation(a, b).mean()) for a, b in itertools.combinations(probabilities, 2)]
    return sum(distances) / len(distances)
