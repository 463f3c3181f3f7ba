"""Measuring many candidates on the same images, without measuring on all of them those that cannot win."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from subspace_serve.data import Images, permutation
from subspace_serve.data.images import in_chunks
from subspace_serve.measure.metrics import METRICS, Scores
from subspace_serve.measure.networks import Candidate, Networks
from subspace_serve.network.network import BLOCK

CONFIDENCE_Z = 2.5
"""How many standard errors a candidate's deficit must exceed for it to be dropped."""


class Race:
    """Candidates' scores on one set of images, which all of them read in one random order.

    After each block of images a candidate is dropped when it is clearly worse than the leader: when its mean deficit,
    paired image by image, exceeds what a tie by the one-standard-error rule allows on all N images (s / sqrt(N)) and
    the sampling error of the n images seen (z s sqrt(1/n - 1/N), since the N are a finite population). The first
    candidate (the midpoint) stays to the end. Expected calibration error is no mean over images, so by that metric
    nobody is dropped.
    """

    def __init__(self, networks: Networks, images: Images, metric: str, *, seed: int = 0) -> None:
        self.networks = networks
        self.metric = metric
        order = permutation(len(images), seed)
        self.images = images
        self.blocks = in_chunks(order, BLOCK)
        self.scores: dict[Candidate, Scores] = {}
        """Of each candidate, on the images that it has seen: the first so many of the order."""

    @property
    def complete(self) -> list[Candidate]:
        """The candidates that have seen every image."""
        return [candidate for candidate, scores in self.scores.items() if len(scores) == len(self.images)]

    def value(self, candidate: Candidate) -> float:
        """Return what a candidate is compared by (`Scores.value`) on what it has seen, so that more is better."""
        return self.scores[candidate].value(self.metric)

    def best(self) -> Candidate:
        """Return the best of those that have seen every image (the first of equals)."""
        return max(self.complete, key=self.value)

    def run(self, candidates: Iterable[Candidate], *, drop: bool = True) -> None:
        """Measure candidates that have not been measured yet, against each other and the best so far.

        Without `drop` all of them see every image, also those that were dropped before.
        """
        known = self.scores if drop else self.complete
        active = list(dict.fromkeys(candidate for candidate in candidates if candidate not in known))
        if not active:
            return
        first = not self.scores
        leader = None if first else self.best()
        keep = active[0] if first else None
        parts: dict[Candidate, list[Scores]] = {candidate: [] for candidate in active}
        for block in self.blocks:
            measured = self.networks.score(active, self.images.subset(block))
            for candidate, scores in zip(active, measured, strict=True):
                parts[candidate].append(scores)
                self.scores[candidate] = Scores.joined(parts[candidate])
            if drop:
                active = self._contenders(active, leader, keep)
                if not active:
                    return

    def _contenders(self, active: list[Candidate], leader: Candidate | None, keep: Candidate | None) -> list[Candidate]:
        seen = len(self.scores[active[0]])
        everything = len(self.images)
        if self.metric == "ece" or seen == everything:
            return active
        values = {candidate: METRICS[self.metric] * self.scores[candidate].of(self.metric) for candidate in active}
        if leader is not None:
            values[leader] = METRICS[self.metric] * self.scores[leader].of(self.metric)[:seen]
        best = max(values.values(), key=lambda value: float(value.mean()))
        allowed = 1 / math.sqrt(everything) + CONFIDENCE_Z * math.sqrt(1 / seen - 1 / everything)

        def stays(candidate: Candidate) -> bool:
            deficit = best - values[candidate]
            return bool(candidate == keep or deficit.mean() <= allowed * np.std(deficit, ddof=1))

        return [candidate for candidate in active if stays(candidate)]
