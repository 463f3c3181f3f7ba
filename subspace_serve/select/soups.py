"""Model soups: networks whose weights are the plain average of some of a subspace's ends.

Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time". Of a subspace such an average is a place like any other: of a line 0, 1 or the midpoint, of a simplex
equal coordinates for the members and 0 for the rest.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from subspace_serve.errors import GeometryError
from subspace_serve.measure.metrics import METRICS
from subspace_serve.measure.networks import Candidate
from subspace_serve.select.race import Race
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha

GRID, GREEDY, UNIFORM = "grid", "greedy-soup", "uniform-soup"
METHODS = (GRID, GREEDY, UNIFORM)
"""How a place is found: on a grid by the test of `decide`, or as one of the two soups."""


@dataclass(frozen=True)
class Step:
    """One member's turn in making the greedy soup.

    Attributes:
        member: the end whose turn it is.
        value: how good it is alone (`Scores.value`), more is better.
        soup: the average of what was taken before and this member.
        soup_value: how good that is.
        taken: whether the member stays.
    """

    member: Candidate
    value: float
    soup: Candidate
    soup_value: float
    taken: bool

    def to_json(self, metric: str) -> dict[str, Any]:
        """Return the step with what was compared in the metric's own direction, less being better of an error."""
        return {
            "member": self.member.members[0],
            "metric": METRICS[metric] * self.value,
            "soup": self.soup.members[0],
            "soup_metric": METRICS[metric] * self.soup_value,
            "taken": self.taken,
        }


@dataclass(frozen=True)
class Soups:
    """The soups of a subspace, made on the images that are chosen on.

    Attributes:
        best_single: the best end.
        uniform: the average of all ends.
        greedy: the greedy soup.
        steps: how it was made, best end first.
    """

    best_single: Candidate
    uniform: Candidate
    greedy: Candidate
    steps: tuple[Step, ...]

    def of(self, method: str) -> Candidate:
        """Return the soup that a method means."""
        return {GREEDY: self.greedy, UNIFORM: self.uniform}[method]

    def reason(self, method: str) -> str:
        """Return in words what a method's soup is made of."""
        if method == UNIFORM:
            return f"the uniform soup of all {len(self.steps)} ends"
        taken = sum(step.taken for step in self.steps)
        if taken == 1:
            return "the greedy soup is the best single end: every average with it is worse"
        return f"the greedy soup of {taken} of the {len(self.steps)} ends"


def check_soups(geometry: Geometry) -> None:
    """Check that a geometry has soups.

    Raises:
        GeometryError: it is a curve, whose ends' average lies off it, or has one network only.
    """
    if geometry.name == "curve":
        raise GeometryError(
            "a curve makes no soup: its bend is no network of its own, and the average of its two ends lies off the "
            "curve; choose with --method grid, or take a line or a simplex"
        )
    if geometry.endpoints == 1:
        raise GeometryError("one network makes no soup; soups average the ends of a line or a simplex")


def make_soups(race: Race, geometry: Geometry) -> Soups:
    """Make the uniform and the greedy soup on a race's images, all of which every end and every average sees.

    The ends take turns, the best first (of equals the first end); each is added where the average with it is not worse
    than without (recipe 1 there). So the greedy soup is never worse on these images than the best single end.

    Args:
        race: on the images to choose on; it holds the scores afterwards.
        geometry: of the subspace.
    """
    ends = range(len(geometry.ends))
    singles, uniform = [_average(geometry, [end]) for end in ends], _average(geometry, ends)
    race.run([*singles, uniform], drop=False)
    taken: list[int] = []
    soup_value = 0.0
    steps = []
    for end in sorted(ends, key=lambda end: race.value(singles[end]), reverse=True):
        soup = _average(geometry, [*taken, end])
        race.run([soup], drop=False)
        value = race.value(soup)
        stays = not taken or value >= soup_value
        steps.append(Step(singles[end], race.value(singles[end]), soup, value, stays))
        if stays:
            taken.append(end)
            soup_value = value
    return Soups(steps[0].member, uniform, _average(geometry, taken), tuple(steps))


def _average(geometry: Geometry, ends: Collection[int]) -> Candidate:
    """Return the place of the average of some ends; of all of them it is the midpoint, to the bit."""
    if len(ends) == len(geometry.ends):
        return Candidate.point(geometry.midpoint)
    if len(ends) == 1:
        return Candidate.point(geometry.ends[next(iter(ends))])
    share = 1 / len(ends)
    alpha: Alpha = tuple(share if end in ends else 0.0 for end in range(geometry.endpoints))
    return Candidate.point(alpha)
