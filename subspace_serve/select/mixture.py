"""One choice for several domains together: their metrics averaged by weight, with the worst of them bounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import METRICS, Scores
from subspace_serve.measure.networks import Candidate
from subspace_serve.select.race import Race
from subspace_serve.suggestions import did_you_mean

DEFAULT_NAME = "mixture"


@dataclass(frozen=True)
class Mixture:
    """How much each of several domains counts, and how good the choice must be on some of them.

    Attributes:
        weights: by domain, positive; only their proportions count. Empty for equal ones.
        at_least: the least accuracy, a fraction, on a domain's images that are chosen on.
        name: of the choice.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    name: str = DEFAULT_NAME

    def check(self, domains: Sequence[str]) -> None:
        """Check that the mixture is one of these domains.

        Raises:
            DataError: there is one domain only or one twice, a name is unknown or has no weight, or a weight or a
                bound is out of range.
        """
        if len(domains) < 2:
            raise DataError(
                f"a mixture needs two domains or more, and there is {', '.join(domains) or 'none'}; name several "
                "as --val-data NAME=SPEC"
            )
        if len(set(domains)) < len(domains):
            raise DataError(
                f"the domains of a mixture have the names {', '.join(domains)}; tell them apart as --val-data NAME=SPEC"
            )
        for name in [*self.weights, *self.at_least]:
            if name not in domains:
                hint = did_you_mean(name, domains) or f"choose among {', '.join(domains)}"
                raise DataError(f"there is no domain {name!r} among those given; {hint}")
        missing = [name for name in domains if self.weights and name not in self.weights]
        if missing:
            raise DataError(
                f"the mixture gives no weight to {', '.join(missing)}; give every domain one, or leave it out"
            )
        for name, weight in self.weights.items():
            if not 0 < weight < math.inf:
                raise DataError(f"the weight of {name} is {weight:g}; weights are positive and finite")
        for name, bound in self.at_least.items():
            if not 0 <= bound <= 1:
                raise DataError(
                    f"the least accuracy of {name} is {bound:g}; it is a fraction from 0 to 1, so 90 % is 0.9"
                )

    def shares(self, domains: Sequence[str]) -> tuple[float, ...]:
        """Return the domains' weights, which sum to 1."""
        weights = [self.weights.get(name, 1.0) for name in domains]
        largest = max(weights)  # the sum of huge ones would overflow
        total = sum(weight / largest for weight in weights)
        return tuple(weight / largest / total for weight in weights)


@dataclass(frozen=True)
class MixedScores:
    """A candidate's scores on several domains; each metric is the mean over domains, by weight (`Compared`).

    Attributes:
        parts: one a domain.
        shares: the domains' weights, which sum to 1.
    """

    parts: tuple[Scores, ...]
    shares: tuple[float, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def metrics(self) -> dict[str, float]:
        """Return `accuracy`, `nll`, `ece` and `brier`, averaged over domains by weight."""
        parts = [part.metrics() for part in self.parts]
        return {
            metric: sum(share * part[metric] for share, part in zip(self.shares, parts, strict=True))
            for metric in METRICS
        }

    def value(self, metric: str) -> float:
        """Return the mean by weight of what candidates are compared by, so that more is better."""
        return sum(share * part.value(metric) for share, part in zip(self.shares, self.parts, strict=True))

    def weighted(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """Return a metric under weightings of the images of all domains, one domain's after another's. (R, N) to (R,).

        So a bootstrap that draws those weights resamples within each domain, and how much a domain counts stays.
        """
        return self._mixed(weights, lambda part, drawn: part.weighted(metric, drawn))

    def compared(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """Return what candidates are compared by, as `weighted`. (R, N) to (R,)."""
        return self._mixed(weights, lambda part, drawn: part.compared(metric, drawn))

    def _mixed(self, weights: np.ndarray, statistic: Callable[[Scores, np.ndarray], np.ndarray]) -> np.ndarray:
        mixed = np.zeros(len(weights))
        ends = np.cumsum([len(part) for part in self.parts])
        for share, part, end in zip(self.shares, self.parts, ends, strict=True):
            drawn = weights[:, end - len(part) : end]
            # Of a handful of images a resample may draw none; it counts each once.
            drawn = np.where(drawn.sum(axis=1, keepdims=True) == 0, 1, drawn)
            mixed += share * statistic(part, drawn)
        return mixed


class MixedRace:
    """Candidates' scores on several domains, all of which see every image of each.

    Nobody is dropped early: who is far behind on one domain may lead the mixture, or be the only one within a bound.
    """

    def __init__(self, races: Mapping[str, Race], mixture: Mixture) -> None:
        self.races = races
        self.mixture = mixture
        self.shares = mixture.shares(list(races))

    @property
    def scores(self) -> dict[Candidate, MixedScores]:
        """Of each candidate, on the images of all domains."""
        races = list(self.races.values())
        return {
            candidate: MixedScores(tuple(race.scores[candidate] for race in races), self.shares)
            for candidate in races[0].scores
        }

    def run(self, candidates: Iterable[Candidate]) -> None:
        """Measure candidates that have not been measured yet."""
        wanted = list(candidates)
        for race in self.races.values():
            race.run(wanted, drop=False)

    def best(self) -> Candidate:
        """Return the best of those within the bounds; where there is none, of those that miss them by least."""
        metric = next(iter(self.races.values())).metric
        scores = self.scores
        return max(scores, key=lambda candidate: (-self._shortfall(candidate), scores[candidate].value(metric)))

    def within(self) -> list[int]:
        """Return the candidates within every bound, by their number in `scores`.

        Raises:
            DataError: there is none.
        """
        found = [index for index, candidate in enumerate(self.scores) if self._shortfall(candidate) == 0]
        if not found:
            raise DataError(self._unreachable())
        return found

    def _accuracy(self, domain: str, candidate: Candidate) -> float:
        return float(self.races[domain].scores[candidate].accuracy.mean())

    def _shortfall(self, candidate: Candidate) -> float:
        """Return by how much accuracy a candidate misses the bounds, on the domain where it misses by most."""
        missing = [bound - self._accuracy(name, candidate) for name, bound in self.mixture.at_least.items()]
        return max([0.0, *missing])

    def _unreachable(self) -> str:
        """Return what to say where no candidate keeps the bounds: which are out of reach, or that all are together."""
        bounds, candidates = self.mixture.at_least, list(self.scores)
        best = {name: max(candidates, key=partial(self._accuracy, name)) for name in bounds}
        reached = {name: self._accuracy(name, candidate) for name, candidate in best.items()}
        missed = [name for name in bounds if reached[name] < bounds[name]]
        found = [
            f"{name} must reach {bounds[name]:g}, its best is {reached[name]:.4g} at alpha {best[name]}"
            for name in missed or bounds
        ]
        which = "the bounds" if missed else "all bounds together"
        return (
            f"none of {len(candidates)} places keeps {which}, on the images that are chosen on: {'; '.join(found)}. "
            "Ask for less with --at-least, look at more places with --points, or train for these domains"
        )
