"""The road from labelled images of a domain to a named point: split, race, refine, decide, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from subspace_serve.data import Images
from subspace_serve.data.domains import Domain
from subspace_serve.data.drawing import carve
from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import DEBIASED_ECE, METRICS
from subspace_serve.measure.networks import Candidate, Networks, StatisticsSource, check_labels
from subspace_serve.network.network import Network
from subspace_serve.select.candidates import candidates_of, distance_to_midpoint, neighbours
from subspace_serve.select.decide import decide, gain_with_interval, standard_error
from subspace_serve.select.race import Race

DEFAULT_CALIBRATION = "default"
ON_DOMAIN = "domain"
"""What a selection records of its calibration: training images, or the half of the domain that it was made on."""

Selection = dict[str, Any]


def select(
    network: Network,
    domains: Sequence[Domain],
    *,
    calibration: StatisticsSource,
    domain_calibration: Mapping[str, StatisticsSource] | None = None,
    calibrated_on: str = DEFAULT_CALIBRATION,
    metric: str = "accuracy",
    kind: str = "points",
    points: int = 11,
    refine: int = 2,
    aggregate: str = "probabilities",
    greedy: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Selection]:
    """Choose for each domain the point or ensemble with the best metric on one half of its images.

    All domains share the networks, each recalibrated once. On the other half the choice is reported beside the
    midpoint, with the gain's confidence interval.

    Args:
        network: the subspace in which to choose.
        domains: labelled images of each place, under different names; never the test set.
        calibration: images for BatchNorm's statistics.
        domain_calibration: unlabelled images of the domain instead, by the domain's name. The choice is then made
            among networks recalibrated there, and reported beside those recalibrated as usual.
        calibrated_on: how those images are named, for the record.
        metric: `accuracy`, `nll`, `ece` or `brier`.
        kind: choose among `points`, `ensembles` or `all`.
        points: how fine the grid is.
        refine: how often the grid's step is halved around the best.
        aggregate: ensembles average `probabilities` or `logits`.
        greedy: take the best even where chance explains it.
        seed: of the division into halves, of the order of the images and of the bootstrap.
        progress: called with a line for each network and each domain.

    Returns:
        JSON values by domain: `alpha` (or `members`, `weights`, `aggregate`), `kept_midpoint`, `reason`, `p_value`,
        `grid` (each candidate with its metric, standard error and how many `images` it was measured on), the halves'
        sizes `chosen_on` and `reported_on`; on the reporting half `reported` and `midpoint`, metrics, and `gain` over
        the midpoint, positive for better, with its 95 % `interval`; `best`, the candidate with the best metric and its
        gain, also where it was not taken; with `domain_calibration` also `recalibration`, the metrics of midpoint and
        choice under both; and every setting, by `ece` also `compared_by`, what its gains are of.

    Raises:
        DataError: the metric is unknown, or the images do not hold every class at least twice.
    """
    if metric not in METRICS:
        raise DataError(f"cannot choose by {metric!r}; choose {', '.join(METRICS)}")
    if points < 2:
        raise DataError(f"a grid has 2 places or more; got {points}")
    halves = {domain.name: split(domain.images, network.classes, seed=seed) for domain in domains}
    usual = Networks(network, calibration, progress=progress)
    settings = {"metric": metric, "kind": kind, "points": points, "refine": refine, "seed": seed, "greedy": greedy}
    if metric == "ece":
        settings["compared_by"] = DEBIASED_ECE
    selections = {}
    for domain in domains:
        on_domain = (domain_calibration or {}).get(domain.name)
        networks = usual if on_domain is None else Networks(network, on_domain, progress=progress)
        choosing, reporting = halves[domain.name]
        race = raced(
            networks, choosing, metric, kind=kind, points=points, refine=refine, aggregate=aggregate, seed=seed
        )
        chosen, selection = _reported(race, reporting, greedy=greedy, seed=seed)
        if on_domain is not None:
            selection["recalibration"] = _both_calibrations(chosen, usual, networks, reporting)
        used = networks.calibration.to_json() | {"on": DEFAULT_CALIBRATION if on_domain is None else calibrated_on}
        selections[domain.name] = selection | {
            "domain": domain.record,
            "chosen_on": len(choosing),
            "reported_on": len(reporting),
            "calibration": used,
            **settings,
        }
        progress(f"{domain.name}: {selection['reason']}")
    return selections


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
        shown = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        raise DataError(
            f"the validation images hold fewer than two of class {shown}; one is needed to choose on and one to "
            "report on: add images of every class"
        )
    reporting, choosing = carve(images.labels, len(images) // 2, seed)
    return images.subset(choosing), images.subset(reporting)


def raced(
    networks: Networks,
    images: Images,
    metric: str,
    *,
    kind: str = "points",
    points: int = 11,
    refine: int = 2,
    aggregate: str = "probabilities",
    seed: int = 0,
) -> Race:
    """Measure the grid, then what lies ever closer around its best; the arguments are those of `select`."""
    geometry = networks.network.geometry
    race = Race(networks, images, metric, seed=seed)
    race.run(candidates_of(geometry, kind, points, aggregate))
    for halvings in range(1, refine + 1):
        race.run(neighbours(geometry, race.best(), points, halvings))
    return race


def _reported(race: Race, reporting: Images, *, greedy: bool, seed: int) -> tuple[Candidate, Selection]:
    """Decide on what the race measured, and measure the choice on the reporting half; return both."""
    candidates, scores = list(race.scores), list(race.scores.values())
    geometry, metric = race.networks.network.geometry, race.metric
    distances = [distance_to_midpoint(geometry, candidate) for candidate in candidates]
    decision = decide(scores, metric, distances, seed=seed, greedy=greedy)
    midpoint, chosen, best = candidates[0], candidates[decision.chosen], candidates[decision.best]
    wanted = list(dict.fromkeys([midpoint, chosen, best]))
    reported = dict(zip(wanted, race.networks.score(wanted, reporting), strict=True))

    def gain(candidate: Candidate) -> dict[str, Any]:
        return gain_with_interval(reported[candidate], reported[midpoint], metric, seed=seed)

    return chosen, {
        **chosen.to_json(),
        "kept_midpoint": chosen == midpoint,
        "reason": decision.reason,
        "p_value": decision.p_value,
        "reported": reported[chosen].metrics(),
        "midpoint": reported[midpoint].metrics(),
        "gain": gain(chosen),
        "best": {**best.to_json(), "reported": reported[best].metrics(), "gain": gain(best)},
        "grid": [
            {
                **candidate.to_json(),
                metric: scored.metrics()[metric],
                "standard_error": standard_error(scored, metric, seed=seed),
                "images": len(scored),
            }
            for candidate, scored in race.scores.items()
        ],
    }


def _both_calibrations(
    chosen: Candidate, usual: Networks, on_domain: Networks, reporting: Images
) -> dict[str, dict[str, dict[str, float]]]:
    """Return midpoint's and choice's metrics with BatchNorm from the usual images and from the domain's."""
    midpoint = Candidate.point(usual.network.geometry.midpoint)
    return {
        name: {
            which: scores.metrics()
            for which, scores in zip(("midpoint", "chosen"), networks.score([midpoint, chosen], reporting), strict=True)
        }
        for name, networks in (("default", usual), ("domain", on_domain))
    }
