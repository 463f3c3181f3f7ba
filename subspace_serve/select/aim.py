"""What one choice is for: a domain, or several domains together; and on which halves of their images it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace_serve.data import Images
from subspace_serve.data.domains import Domain
from subspace_serve.data.drawing import carve
from subspace_serve.errors import DataError
from subspace_serve.measure.networks import Candidate, Networks, check_labels
from subspace_serve.select.decide import Compared
from subspace_serve.select.mixture import MixedRace, MixedScores, Mixture
from subspace_serve.select.race import Race
from subspace_serve.suggestions import listed


@dataclass(frozen=True)
class Part:
    """A domain, and the two halves of its images."""

    domain: Domain
    choosing: Images
    reporting: Images

    @classmethod
    def of(cls, domain: Domain, classes: int, seed: int) -> Part:
        """Divide a domain's images (`split`)."""
        return cls(domain, *split(domain.images, classes, seed=seed))

    def record(self) -> dict[str, Any]:
        """Return what a selection keeps of the domain."""
        return {
            "domain": self.domain.record,
            "chosen_on": len(self.choosing),
            "reported_on": len(self.reporting),
        }


@dataclass(frozen=True)
class Aim:
    """What one choice is for.

    Attributes:
        name: of the choice.
        parts: the domains; one without a mixture.
        mixture: how several count.
    """

    name: str
    parts: tuple[Part, ...]
    mixture: Mixture | None = None

    @property
    def shares(self) -> tuple[float, ...]:
        """The domains' weights, which sum to 1."""
        return (self.mixture or Mixture()).shares([part.domain.name for part in self.parts])

    def race(self, networks: Networks, metric: str, seed: int) -> Race | MixedRace:
        """Return what measures candidates on the halves to choose on."""
        races = {part.domain.name: Race(networks, part.choosing, metric, seed=seed) for part in self.parts}
        return next(iter(races.values())) if self.mixture is None else MixedRace(races, self.mixture)

    def score(self, networks: Networks, candidates: Sequence[Candidate]) -> dict[Candidate, Compared]:
        """Return the scores of candidates on the halves to report on."""
        parts = zip(*(networks.score(candidates, part.reporting) for part in self.parts), strict=True)
        if self.mixture is None:
            return {candidate: scores for candidate, (scores,) in zip(candidates, parts, strict=True)}
        return {
            candidate: MixedScores(scores, self.shares) for candidate, scores in zip(candidates, parts, strict=True)
        }

    def record(self) -> dict[str, Any]:
        """Return what a selection keeps of what it is for."""
        if self.mixture is None:
            return self.parts[0].record()
        return {
            "chosen_on": sum(len(part.choosing) for part in self.parts),
            "reported_on": sum(len(part.reporting) for part in self.parts),
        }


def aims_of(domains: Sequence[Domain], mixture: Mixture | None, classes: int, seed: int) -> list[Aim]:
    """Return an aim a domain, or one for all of them.

    Raises:
        DataError: the mixture is none of these domains (`Mixture.check`), or images cannot be divided (`split`).
    """
    if mixture is not None:
        mixture.check([domain.name for domain in domains])
    parts = [Part.of(domain, classes, seed) for domain in domains]
    if mixture is None:
        return [Aim(part.domain.name, (part,)) for part in parts]
    return [Aim(mixture.name, tuple(parts), mixture)]


def split(images: Images, classes: int, *, seed: int) -> tuple[Images, Images]:
    """Divide labelled images class by class into a half to choose on and a half to report on.

    Raises:
        DataError: there are fewer images than classes, or a class has none or only one.
    """
    check_labels(images, classes)
    counts = np.bincount(images.labels, minlength=classes)
    if len(images) < classes:
        raise DataError(
            f"{len(images)} validation images are fewer than the {classes} classes; give two or more of each"
        )
    few = [str(label) for label in np.flatnonzero(counts < 2)]
    if few:
        raise DataError(
            f"the validation images hold fewer than two of class {listed(few)}; one is needed to choose on and one to "
            "report on: add images of every class"
        )
    reporting, choosing = carve(images.labels, len(images) // 2, seed)
    return images.subset(choosing), images.subset(reporting)
