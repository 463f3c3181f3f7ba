"""What is recorded of a choice: how good it is on the images that took no part in it, and what it was chosen from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from subspace_serve.measure.networks import Candidate, Networks
from subspace_serve.select.aim import Aim
from subspace_serve.select.decide import Compared, Decision, gain_with_interval, standard_error
from subspace_serve.select.mixture import MixedScores
from subspace_serve.select.soups import GREEDY, GRID, UNIFORM, Soups

Selection = dict[str, Any]
"""JSON values."""

BEST_SINGLE = "best-single"


def recorded(
    decision: Decision,
    measured: Mapping[Candidate, Compared],
    aim: Aim,
    networks: Networks,
    metric: str,
    *,
    seed: int,
) -> Selection:
    """Return a decision with the metrics and gains of midpoint, choice and best on the reporting half.

    Args:
        decision: about the candidates of `measured`, in their order.
        measured: the scores of all candidates on the images to choose on, the midpoint's first.
        aim: has the images to report on.
        networks: answer there.
        metric: of `subspace_serve.measure.metrics.METRICS`.
        seed: of the bootstrap.
    """
    candidates = list(measured)
    midpoint, chosen, best = candidates[0], candidates[decision.chosen], candidates[decision.best]
    reported = aim.score(networks, list(dict.fromkeys([midpoint, chosen, best])))

    def gain(candidate: Candidate) -> dict[str, Any]:
        return gain_with_interval(reported[candidate], reported[midpoint], metric, seed=seed)

    selection = {
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
                metric: scores.metrics()[metric],
                "standard_error": standard_error(scores, metric, seed=seed),
                "images": len(scores),
            }
            for candidate, scores in measured.items()
        ],
    }
    if aim.mixture is not None:
        selection["domains"] = _by_domain(aim, measured[chosen], reported[chosen], reported[midpoint], metric, seed)
    return selection


def _by_domain(
    aim: Aim, chosen_on: Compared, reported: Compared, midpoint: Compared, metric: str, seed: int
) -> dict[str, dict[str, Any]]:
    """Return what a mixture's choice does to each domain, and whether its bound holds on the reporting half."""
    assert isinstance(chosen_on, MixedScores)
    assert isinstance(reported, MixedScores)
    assert isinstance(midpoint, MixedScores)
    table = {}
    parts = zip(aim.parts, aim.shares, chosen_on.parts, reported.parts, midpoint.parts, strict=True)
    for part, share, on_choosing, here, usual in parts:
        name, metrics = part.domain.name, here.metrics()
        table[name] = part.record() | {
            "weight": share,
            "choosing": on_choosing.metrics(),
            "reported": metrics,
            "midpoint": usual.metrics(),
            "gain": gain_with_interval(here, usual, metric, seed=seed),
        }
        bound = aim.mixture.at_least.get(name) if aim.mixture else None
        if bound is not None:
            table[name] |= {"at_least": bound, "holds": metrics["accuracy"] >= bound}
    return table


def recorded_soups(
    soups: Soups, from_grid: Candidate, aim: Aim, networks: Networks, metric: str, *, seed: int
) -> Selection:
    """Return the soups on the reporting half, beside the best single end and the place that the grid gives.

    Gains are over the best single end: what a soup is for is to be better than the one network that one would take.
    """
    rows = {
        BEST_SINGLE: soups.best_single,
        UNIFORM: soups.of(UNIFORM),
        GREEDY: soups.of(GREEDY),
        GRID: from_grid,
    }
    reported = aim.score(networks, list(dict.fromkeys(rows.values())))
    single = reported[soups.best_single]
    return {
        "steps": [step.to_json(metric) for step in soups.steps],
        "soups": {
            name: {
                **candidate.to_json(),
                "reported": reported[candidate].metrics(),
                "gain": gain_with_interval(reported[candidate], single, metric, seed=seed),
            }
            for name, candidate in rows.items()
        },
    }


def both_calibrations(
    candidates: Sequence[Candidate], usual: Networks, on_domain: Networks, aim: Aim
) -> dict[str, dict[str, dict[str, float]]]:
    """Return metrics with BatchNorm from the usual images and from the domain's.

    Args:
        candidates: the midpoint, and the choice.
        usual: networks recalibrated as usual.
        on_domain: networks recalibrated on images of the domain.
        aim: has the images to report on.
    """
    table = {}
    for name, networks in (("default", usual), ("domain", on_domain)):
        scores = aim.score(networks, candidates)
        table[name] = {
            which: scores[candidate].metrics()
            for which, candidate in zip(("midpoint", "chosen"), candidates, strict=True)
        }
    return table
