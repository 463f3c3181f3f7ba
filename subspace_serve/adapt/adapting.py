"""From unlabelled images of a domain to its statistics; from labelled ones to its place and temperature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from subspace_serve.adapt.checks import refuse_unfit, warnings_of
from subspace_serve.adapt.promised import promised_by
from subspace_serve.answers import entropy_of, softmax
from subspace_serve.bundle.manifest import TRAINING, DomainImages
from subspace_serve.bundle.subspace import BundledSubspace
from subspace_serve.data import Images, MemoryImages, permutation
from subspace_serve.data.domains import Domain
from subspace_serve.errors import DataError
from subspace_serve.export.answers import Record, fit_record
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
from subspace_serve.prediction_sets import Method
from subspace_serve.select import select, split
from subspace_serve.space.place import Alpha, place

PARITY_IMAGES = 64
"""How many images a point's graph is compared on."""
MOST_IMAGES = 2048
"""How many images of a domain are used at most; more hardly change its statistics."""

_SAME = (
    "the labelled images are those of the statistics, so neither prediction sets nor abstaining can be promised from "
    "them; label others"
)


@dataclass(frozen=True)
class Labels:
    """Labelled images of a domain, and how its place is chosen on them.

    Attributes:
        domain: the images; one half chooses, the other reports and calibrates prediction sets and abstaining.
        metric: what the place is chosen by: `accuracy`, `nll`, `ece` or `brier`.
        seed: of the division into halves.
        sets_method: the score of a label in a prediction set: `lac`, `aps` or `raps`.
    """

    domain: Domain
    metric: str = "accuracy"
    seed: int = 0
    sets_method: Method = "lac"


@dataclass(frozen=True, eq=False)
class Adaptation:
    """A domain's statistics and place, and what they change.

    Attributes:
        name: of the domain.
        alpha: its place.
        statistics: at the subspace's knots, mixed with those of training images.
        prior: how many images the training statistics count as.
        shares: how much of each layer's statistics is the domain's own, float64 (layers,).
        images: the record of the images used.
        pixels: up to 64 of them, uint8 (N, H, W, C), to compare graphs on.
        agreement: the fraction of the images used whose answer stays the same, in [0, 1].
        entropy: the mean entropy of the answers `before` and `after`, at the temperature of each, in nats.
        warnings: what a user should look at.
        chosen: what `select` records of the choice; None without labels, and where alpha was given.
        labelled: `accuracy`, `nll`, `ece` and `brier` `before` and `after`, on the half of the labelled images that had
            no part in the choice; empty without labels. `before` is what the bundle answers now: the domain of this
            name, or the usual place with the training statistics.
        fit: the fitted temperature; None without labels.
        record: of the point's answers. What promises and the drift alarm take is from the half of the labelled images
            that had no part in the choice, less those that gave the statistics; nothing without labels, and where none
            are left.
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
    record: Record = field(default_factory=Record)

    @property
    def is_worse(self) -> bool:
        """Whether labels say that the domain is answered less accurately than before."""
        return bool(self.labelled) and self.labelled["after"]["accuracy"] < self.labelled["before"]["accuracy"]

    def to_json(self) -> dict[str, Any]:
        """Return the report for users, as JSON values."""
        sets, abstention = self.record.sets, self.record.abstention
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
            "sets": sets.model_dump(mode="json", exclude={"scores"}) if sets else None,
            "abstention": abstention.model_dump(mode="json") if abstention else None,
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
    """Compute a domain's statistics, place and temperature; nothing is written.

    Args:
        subspace: the bundle's.
        images: of the domain; their labels, if any, are ignored.
        name: of the domain.
        data: what the images are, for the record.
        alpha: the domain's place; None for the midpoint, or with labels for the place that `select` chooses.
        labels: labelled images of the domain, which fit its temperature and, without alpha, choose its place.
        prior: how many images the training statistics count as; 0 uses the domain's own statistics alone.
        seed: of the draw where there are more images than are used.
        progress: called with a line for each step that takes a while.

    Raises:
        DataError: no statistics can be computed from the images, the networks have no BatchNorm, or the labelled images
            do not have two of every class.
        GeometryError: alpha lies outside the geometry's domain.
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
    labelled: dict[str, dict[str, float]] = {}
    fit, record = None, Record()
    if labels is not None:
        _, reporting = split(labels.domain.images, network.classes, seed=labels.seed)
        everything = softmax(after.logits_of(labels.domain.images))
        fit = fit_and_report(everything, labels.domain.images.labels, seed=labels.seed)
        record = promised_by(
            labels.domain,
            everything,
            of_statistics=MemoryImages(pixels, np.zeros(len(pixels), np.int64)),
            temperature=fit.temperature,
            seed=labels.seed,
            method=labels.sets_method,
        )
        record = replace(
            record,
            metrics=fit.after,
            temperature=fit.temperature,
            temperature_fit=fit_record(fit, labels.domain.description, labels.seed),
        )
        labelled = {
            "before": classification_metrics(softmax(before.logits_of(reporting) / temperature), reporting.labels),
            "after": fit.after,
        }
    old = softmax(before.logits(pixels) / temperature)
    new = softmax(after.logits(pixels) / record.temperature)
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
        warnings=warnings_of(pixels, old, new) + ([_SAME] if labels is not None and record.sets is None else []),
        chosen=chosen,
        labelled=labelled,
        fit=fit,
        record=record,
    )


def _answering_now(subspace: BundledSubspace, name: str, usual: Alpha) -> tuple[Answering, float]:
    """Return the network that answers for the domain before it is adapted, and the temperature of its answers.

    It is the bundle's domain of that name, if there is one, else the usual place with the training statistics.
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
