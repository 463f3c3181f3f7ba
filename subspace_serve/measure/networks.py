"""Many networks of one subspace at once: each is made and recalibrated once, however often it is used.

A network is small compared with the data that it is measured on, so the networks stay in memory and the images stream
past them, a block at a time: a block is decoded and corrupted once for all networks, and memory use stays flat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from subspace_serve.answers import ensemble_probabilities
from subspace_serve.data import Images
from subspace_serve.data.domains import Domain
from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import Scores, score
from subspace_serve.network.network import BLOCK, Answering, Network
from subspace_serve.network.sessions import cores, several_at_once
from subspace_serve.network.statistics import Statistics
from subspace_serve.space.ensemble import Ensemble
from subspace_serve.space.place import Alpha, place, place_text

T = TypeVar("T")


Candidate = Ensemble[Alpha]
"""What can answer: one network of the subspace, or several averaged in output space."""


class StatisticsSource(Protocol):
    """Where networks get their BatchNorm statistics from: images to recompute them with, or a known set."""

    def statistics(self, network: Network, alpha: Alpha, weights: np.ndarray) -> Statistics:
        """Return the statistics of the network at a place, whose parameters are `weights`."""

    def to_json(self) -> dict[str, Any]:
        """Return the record of the images, as JSON values."""


class Networks:
    """The networks P(alpha) of a subspace, recalibrated with the same images.

    On a CPU the networks share the cores, one thread per network: for networks small enough for a CPU this is faster
    than several threads within each.
    """

    def __init__(
        self,
        network: Network,
        calibration: StatisticsSource,
        *,
        extrapolate: bool = False,
        workers: int | None = None,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Make no network yet.

        Args:
            network: the subspace that they lie in.
            calibration: where BatchNorm's statistics come from, such as images to recompute them with.
            extrapolate: allow places a little outside a line.
            workers: how many networks at a time; None for one per CPU core, or one on CUDA.
            progress: called with a line for each network made.
        """
        self.network = network
        self.calibration = calibration
        self.extrapolate = extrapolate
        self.workers = workers or (cores() if network.on_cpu else 1)
        self.progress = progress
        self._answering: dict[Alpha, Answering] = {}

    def prepare(self, alphas: Iterable[Alpha]) -> None:
        """Collapse and recalibrate the networks that have not been made yet.

        Raises:
            GeometryError: a place lies outside the domain.
        """
        missing = list(dict.fromkeys(key for alpha in alphas if (key := place(alpha)) not in self._answering))
        # One thread each, so that a network's answers do not depend on how many networks there are.
        network = self.network.with_threads(1)

        def make(alpha: Alpha) -> Answering:
            weights = network.weights(alpha, extrapolate=self.extrapolate)
            statistics = self.calibration.statistics(network, alpha, weights)
            return network.with_weights(weights, statistics)

        with several_at_once(min(self.workers, len(missing))) as run:
            for alpha, answering in zip(missing, run(make, missing), strict=True):
                self._answering[alpha] = answering
                self.progress(f"alpha {place_text(alpha)}")

    def logits(self, alphas: Sequence[Alpha], images: Images) -> Iterator[tuple[dict[Alpha, np.ndarray], np.ndarray]]:
        """Yield the networks' logits (n, classes) by place, and the labels (n,), a block of images at a time."""
        self.prepare(alphas)
        keys = list(dict.fromkeys(map(place, alphas)))
        with several_at_once(min(self.workers, len(keys))) as run:
            for pixels, labels in images.batches(BLOCK):

                def answer(key: Alpha, pixels: np.ndarray = pixels) -> np.ndarray:
                    return self._answering[key].logits(pixels)

                yield dict(zip(keys, run(answer, keys), strict=True)), labels

    def measure(
        self,
        candidates: Sequence[Candidate],
        images: Images,
        answer: Callable[[Candidate, dict[Alpha, np.ndarray], np.ndarray], T],
    ) -> list[list[T]]:
        """Return, for each candidate, the list of results that `answer` gives for the blocks of images.

        Args:
            candidates: the networks and ensembles to measure.
            images: labelled images.
            answer: called with a candidate, the networks' logits (n, classes) by place, and the labels (n,).

        Raises:
            DataError: there are no images, or a label is not one of the network's classes.
        """
        check_labels(images, self.network.classes)
        parts: list[list[T]] = [[] for _ in candidates]
        for logits, labels in self.logits([alpha for candidate in candidates for alpha in candidate.members], images):
            for candidate, part in zip(candidates, parts, strict=True):
                part.append(answer(candidate, logits, labels))
        return parts

    def score(self, candidates: Sequence[Candidate], images: Images) -> list[Scores]:
        """Return the scores of each candidate on every image, in the order of `candidates`.

        Raises:
            DataError: as `measure`.
        """
        return [Scores.joined(parts) for parts in self.measure(candidates, images, scored)]


def scored(candidate: Candidate, logits: dict[Alpha, np.ndarray], labels: np.ndarray) -> Scores:
    """Return a candidate's scores from its members' logits; an `answer` for `Networks.measure`."""
    return score(combined(candidate, logits), labels)


def combined(candidate: Candidate, logits: dict[Alpha, np.ndarray]) -> np.ndarray:
    """Return a candidate's probabilities from its members' logits. Shape (N, classes)."""
    members = [logits[place(alpha)] for alpha in candidate.members]
    return ensemble_probabilities(members, candidate.weights, candidate.aggregate)


def check_labels(images: Images, classes: int) -> None:
    """Check that there are images, of the network's classes.

    Raises:
        DataError: there are none, or a label is not one of the network's classes.
    """
    if len(images) == 0:
        raise DataError("there are no images to evaluate on")
    largest = int(images.labels.max())
    if largest >= classes:
        raise DataError(
            f"a label is {largest} and the network has classes 0 to {classes - 1}; use the data it was trained for"
        )


def check_same(clean: Images, corrupted: Domain) -> None:
    """Check that corrupted images can be the clean ones: as many of each class, in any order.

    Raises:
        DataError: they are others.
    """
    if np.array_equal(np.sort(clean.labels), np.sort(corrupted.images.labels)):
        return
    data, count = corrupted.record["data"], len(corrupted.images)
    found = f"{count} instead of {len(clean)}" if count != len(clean) else f"{count}, with other numbers of each class"
    raise DataError(
        f"the images of {data} are not the clean ones, corrupted: found {found}; a change of accuracy between "
        f"different images means nothing, so evaluate them alone, as --data {data}"
    )
