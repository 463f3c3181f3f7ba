"""The road from labelled images of a domain to a named point: split, race, refine, decide, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subspace_serve.data.domains import Domain
from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import DEBIASED_ECE, METRICS
from subspace_serve.measure.networks import Candidate, Networks, StatisticsSource
from subspace_serve.network.network import Network
from subspace_serve.network.reduced import check_tools
from subspace_serve.select.aim import Aim, aims_of
from subspace_serve.select.candidates import candidates_of, distance_to_midpoint, neighbours
from subspace_serve.select.decide import Compared, decide, taken
from subspace_serve.select.mixture import MixedRace, Mixture
from subspace_serve.select.reporting import Selection, both_calibrations, recorded, recorded_soups
from subspace_serve.select.rival import int8_rival
from subspace_serve.select.soups import GRID, METHODS, check_soups, make_soups

DEFAULT_CALIBRATION = "default"
ON_DOMAIN = "domain"
"""What a selection records of its calibration: training images, or the half of the domain that it was made on."""


def select(
    network: Network,
    domains: Sequence[Domain],
    *,
    calibration: StatisticsSource,
    domain_calibration: Mapping[str, StatisticsSource] | None = None,
    calibrated_on: str = DEFAULT_CALIBRATION,
    metric: str = "accuracy",
    method: str = GRID,
    kind: str = "points",
    points: int = 11,
    refine: int = 2,
    aggregate: str = "probabilities",
    greedy: bool = False,
    mixture: Mixture | None = None,
    int8: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Selection]:
    """Choose for each domain, or for a mixture of all, the point or ensemble with the best metric on half the images.

    All domains share the networks, each recalibrated once. On the other half the choice is reported beside the
    midpoint, with the gain's confidence interval.

    Args:
        network: the subspace in which to choose.
        domains: labelled images of each place, under different names; never the test set.
        calibration: images for BatchNorm's statistics.
        domain_calibration: unlabelled images of the domain instead, by the domain's (or the mixture's) name. The choice
            is then made among networks recalibrated there, and reported beside those recalibrated as usual.
        calibrated_on: how the images are named whose statistics the choice is made with, for the record.
        metric: `accuracy`, `nll`, `ece` or `brier`.
        method: `grid`: measure places and test whether the best beats the midpoint; `greedy-soup`, `uniform-soup`: take
            an average of the ends (Wortsman et al. 2022), and measure the grid beside it.
        kind: choose among `points`, `ensembles` or `all`.
        points: how fine the grid is.
        refine: how often the grid's step is halved around the best.
        aggregate: ensembles average `probabilities` or `logits`.
        greedy: take the best even where chance explains it.
        mixture: choose one place for all domains: by the mean of their metrics by weight, among those that are good
            enough on each. Where the midpoint is not, the best of those is taken.
        int8: also measure the ends' int8 ensemble against the float midpoint on the reporting half (`int8_rival`).
        seed: of the division into halves, of the order of the images and of the bootstrap.
        progress: called with a line for each network and each choice.

    Returns:
        JSON values by domain, or of the mixture by its name: `alpha` (or `members`, `weights`, `aggregate`),
        `kept_midpoint`, `reason`, `p_value`, `grid` (each candidate with its metric, standard error and how many
        `images` it was measured on), the halves' sizes `chosen_on` and `reported_on`; on the reporting half `reported`
        and `midpoint`, metrics, and `gain` over the midpoint, positive for better, with its 95 % `interval`; `best`,
        the candidate with the best metric and its gain, also where it was not taken; with `domain_calibration` also
        `recalibration`, the metrics of midpoint and choice under both; and every setting, by `ece` also `compared_by`,
        what its gains are of. Of a soup also `steps`, how the greedy one was made, and `soups`, on the reporting half
        the best single end, both soups and the grid's choice, with gains over that end. Of a mixture these figures are
        means over domains by weight, and `domains` has each one's own with its `weight`, and whether its bound
        `at_least` `holds` on the reporting half.

    Raises:
        DataError: the metric or the method is unknown, the images do not hold every class at least twice, the mixture
            is none of these domains (`Mixture.check`), no place is within its bounds, or it is to be a soup.
        GeometryError: the subspace has no soups (`check_soups`).
    """
    settings = _Settings(metric, method, kind, points, refine, aggregate, greedy, seed)
    settings.check(mixture)
    if int8 and mixture is not None:
        raise DataError("an int8 ensemble is measured on one domain at a time; leave out the mixture or int8")
    if method != GRID:
        check_soups(network.geometry)
    if int8:
        check_tools()
    aims = aims_of(domains, mixture, network.classes, seed)
    usual = Networks(network, calibration, progress=progress)
    selections = {}
    for aim in aims:
        on_domain = (domain_calibration or {}).get(aim.name)
        networks = usual if on_domain is None else Networks(network, on_domain, progress=progress)
        chosen, selection = _chosen(aim, networks, settings)
        if on_domain is not None and calibration is not on_domain:
            pair = [Candidate.point(network.geometry.midpoint), chosen]
            selection["recalibration"] = both_calibrations(pair, usual, networks, aim)
        if int8:
            reporting = aim.parts[0].reporting
            selection["int8"] = int8_rival(
                network, networks.calibration, reporting, metric, aggregate=aggregate, seed=seed
            )
        used = networks.calibration.to_json() | {"on": calibrated_on}
        selections[aim.name] = selection | aim.record() | {"calibration": used, **settings.to_json()}
        progress(f"{aim.name}: {selection['reason']}")
    return selections


@dataclass(frozen=True)
class _Settings:
    """The arguments of `select` that say how is chosen."""

    metric: str
    method: str
    kind: str
    points: int
    refine: int
    aggregate: str
    greedy: bool
    seed: int

    def check(self, mixture: Mixture | None) -> None:
        """Raise `DataError` where they mean nothing, or nothing together."""
        for name, value, known in (("metric", self.metric, METRICS), ("method", self.method, METHODS)):
            if value not in known:
                raise DataError(f"cannot choose by {value!r}; choose {', '.join(known)} as {name}")
        if self.points < 2:
            raise DataError(f"a grid has 2 places or more; got {self.points}")
        if self.method != GRID and (self.kind != "points" or self.greedy or mixture is not None):
            raise DataError(
                f"a {self.method} is one place for one domain, without ensembles, greedy or a mixture; choose by grid"
            )

    def to_json(self) -> dict[str, Any]:
        names = ("metric", "method", "kind", "points", "refine", "seed", "greedy")
        compared_by = {"compared_by": DEBIASED_ECE} if self.metric == "ece" else {}
        return {name: getattr(self, name) for name in names} | compared_by


def _chosen(aim: Aim, networks: Networks, settings: _Settings) -> tuple[Candidate, Selection]:
    """Choose on the halves to choose on, report on the others; return the choice and its record."""
    geometry, metric, seed = networks.network.geometry, settings.metric, settings.seed
    race = aim.race(networks, metric, seed)
    race.run(candidates_of(geometry, settings.kind, settings.points, settings.aggregate))
    for halvings in range(1, settings.refine + 1):
        race.run(neighbours(geometry, race.best(), settings.points, halvings))
    measured: Mapping[Candidate, Compared] = race.scores
    distances = [distance_to_midpoint(geometry, candidate) for candidate in measured]
    within = race.within() if isinstance(race, MixedRace) else None
    scores = list(measured.values())
    decision = decide(scores, metric, distances, seed=seed, greedy=settings.greedy, within=within)
    chosen = list(measured)[decision.chosen]
    if settings.method == GRID or isinstance(race, MixedRace):
        return chosen, recorded(decision, measured, aim, networks, metric, seed=seed)
    soups, from_grid, measured = make_soups(race, geometry), chosen, race.scores
    chosen, reason = soups.of(settings.method), soups.reason(settings.method)
    distances = [distance_to_midpoint(geometry, candidate) for candidate in measured]
    number = list(measured).index(chosen)
    decision = taken(number, reason, list(measured.values()), metric, distances, seed=seed)
    selection = recorded(decision, measured, aim, networks, metric, seed=seed)
    return chosen, selection | recorded_soups(soups, from_grid, aim, networks, metric, seed=seed)
