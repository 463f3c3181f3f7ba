"""From unlabelled images of a domain to its statistics; from labelled ones to its place and temperature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from subspace_serve.adapt.checks import refuse_unfit, warnings_of
from subspace_serve.answers import entropy_of, softmax
from subspace_serve.bundle.manifest import TRAINING, DomainImages
from subspace_serve.bundle.subspace import BundledSubspace
from subspace_serve.data import Images, permutation
from subspace_serve.data.domains import Domain
from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.measure.temperature import FittedTemperature, fit_and_report
from subspace_serve.network.mixing import PRIOR, mixed
from subspace_serve.network.network import Answering
from subspace_serve.network.statistics_set import (
    KnownStatistics,
    StatisticsSet,
    compute_statistics,
    even_batches,
)
from subspace_serve.select import select, split
from subspace_serve.space.place import Alpha, place

PARITY_IMAGES = 64
"""How many images a point's graph is compared on."""
MOST_IMAGES = 2048
"""More images of a domain tell nothing that these do not."""


@dataclass(frozen=True)
class Labels:
    """Labelled images of a domain, and how its place is chosen on them.

    Attributes:
        domain: the images; one half chooses, the other reports.
        metric: by which is chosen: `accuracy`, `nll`, `ece` or `brier`.
        seed: of the division into halves.
    """

    domain: Domain
    metric: str = "accuracy"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Adaptation:
    """A domain's statistics and place, and what they change.

    Attributes:
        name: of the domain.
        alpha: its place.
        statistics: at the subspace's knots, mixed with those of training images.
        prior: for how many images the training statistics stand.
        shares: how much of each layer's statistics is the domain's own, float64 (layers,).
        images: which they were.
        pixels: the first of them, uint8 (N, H, W, C), to compare graphs on.
        agreement: of how many of these images the answer stays the same, in [0, 1].
        entropy: the mean entropy of the answers before and after, in nats.
        warnings: what a user should look at.
        chosen: what `select` records of the choice, with labels.
        labelled: `accuracy`, `nll`, `ece`, `brier` before and after, on images that chose nothing, with labels. Before
            is what the bundle answers now: the domain of this name, or the usual place with training's statistics.
        fit: the temperature, with labels.
        labels: the labelled images.
    """

    name: str
    alpha: Alpha
    statistics: StatisticsSet
    prior: float
    shares: np.ndarray
    images: DomainImages
    pixels: np.ndarray
    agreement: float
    entropy: dict[str, float]
    warnings: list[str]
    chosen: dict[str, Any] | None = None
    labelled: dict[str, dict[str, float]] = field(default_factory=dict)
    fit: FittedTemperature | None = None
    labels: Labels | None = None

    @property
    def is_worse(self) -> bool:
        """Whether labels say that the domain is answered less accurately than before."""
        return bool(self.labelled) and self.labelled["after"]["accuracy"] < self.labelled["before"]["accuracy"]

    def to_json(self) -> dict[str, Any]:
        """Return what a user may want to know, as JSON values."""
        return {
            "name": self.name,
            "alpha": self.alpha,
            "images": self.images.model_dump(),
            "prior": self.prior,
            "own_share": {"least": float(self.shares.min()), "mean": float(self.shares.mean())}
            if self.shares.size
            else None,
            "agreement": self.agreement,
            "entropy": self.entropy,
            "labelled": self.labelled or None,
            "temperature": asdict(self.fit) if self.fit else None,
            "chosen": self.chosen,
            "warnings": self.warnings,
        }


def adapt(
    subspace: BundledSubspace,
    images: Images,
    *,
    name: str,
    data: str,
    alpha: Alpha | None = None,
    labels: Labels | None = None,
    prior: float = PRIOR,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Adaptation:
    """Compute what a domain needs; nothing is written.

    Args:
        subspace: the bundle's.
        images: of the domain; labels, if they have any, are not looked at.
        name: of the domain.
        data: what the images are, for the record.
        alpha: the domain's place; with labels it is chosen, else it is the midpoint's unless given.
        labels: labelled images of the domain, which choose its place and its temperature.
        prior: for how many images the training statistics stand; 0 leaves the domain's own alone.
        seed: of the draw where there are more images than are used.
        progress: called with a line for each step that takes a while.

    Raises:
        DataError: the images cannot give statistics, the networks have none, or the labelled ones lack classes.
        GeometryError: alpha lies outside the domain.
    """
    network, geometry = subspace.network, subspace.geometry
    used = np.sort(permutation(len(images), seed)[:MOST_IMAGES])
    pixels, _ = images.take(used)
    refuse_unfit(pixels, data)
    if not network.skeleton.batchnorms:
        raise DataError(
            "the networks have no BatchNorm, so there are no statistics to recompute; with labelled images, "
            "subspace-serve select chooses a place"
        )
    own = compute_statistics(network, lambda: even_batches(pixels), progress=progress)
    training = subspace.statistics()
    statistics, shares = mixed(own, training, network.skeleton, prior=prior)
    usual = here = geometry.check(geometry.midpoint if alpha is None else alpha)
    chosen = None
    if labels is not None and alpha is None:
        known = KnownStatistics(statistics, {"data": data, "count": len(used), "batch_size": 0, "seed": seed})
        chosen = select(
            network,
            [labels.domain],
            calibration=known,
            calibrated_on=name,
            metric=labels.metric,
            seed=labels.seed,
            progress=progress,
        )[labels.domain.name]
        here = place(chosen["alpha"])
    before, temperature = _answering_now(subspace, name, usual)
    after = network.at(here, statistics.at(here))
    old, new = softmax(before.logits(pixels) / temperature), softmax(after.logits(pixels))
    labelled: dict[str, dict[str, float]] = {}
    fit = None
    if labels is not None:
        _, reporting = split(labels.domain.images, network.classes, seed=labels.seed)
        everything = softmax(after.logits_of(labels.domain.images))
        fit = fit_and_report(everything, labels.domain.images.labels, seed=labels.seed)
        labelled = {
            "before": classification_metrics(softmax(before.logits_of(reporting) / temperature), reporting.labels),
            "after": fit.after,
        }
    return Adaptation(
        name=name,
        alpha=here,
        statistics=statistics,
        prior=prior,
        shares=shares,
        images=DomainImages(data=data, count=len(used), fingerprint=images.fingerprint()),
        pixels=pixels[:PARITY_IMAGES],
        agreement=float((old.argmax(1) == new.argmax(1)).mean()),
        entropy={"before": float(entropy_of(old).mean()), "after": float(entropy_of(new).mean())},
        warnings=warnings_of(pixels, old, new),
        chosen=chosen,
        labelled=labelled,
        fit=fit,
        labels=labels,
    )


def _answering_now(subspace: BundledSubspace, name: str, usual: Alpha) -> tuple[Answering, float]:
    """Return what answers the domain before it is adapted, and the temperature of that answer.

    That is the domain of the name, where there is one, else the usual place with the statistics of training images.
    """
    network, manifest = subspace.network, subspace.bundle.manifest
    if (domain := manifest.domains.get(name)) is not None:
        return network.at(domain.alpha, subspace.statistics(domain.statistics).at(domain.alpha)), domain.temperature
    fitted = [
        point.temperature
        for point in manifest.points.values()
        if point.statistics == TRAINING and point.alpha is not None and place(point.alpha) == place(usual)
    ]
    return network.at(usual, subspace.statistics().at(usual)), next(iter(fitted), 1.0)
