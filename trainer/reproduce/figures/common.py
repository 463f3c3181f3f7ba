"""What the figures' descriptions share: settings, numbers of a case (one per seed), and pieces of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from subspace_serve.show.plot.series import Series, SeriesPanel
from trainer.methods import NEUTRAL
from trainer.reproduce.description import Case, Results, Runs, Settings, Wanted, middle
from trainer.reproduce.measures import Alone, Along, EnsemblesBySize, Measure
from trainer.reproduce.scales import Scale

ACCURACY = "test accuracy (%)"
CLOSE = 0.005
"""Half a percentage point: how close two accuracies must be where the paper says that one comes near the other."""

STANDARD: Settings = {"subspace": "standard"}
EARLY_STOPPING: Settings = {"subspace": "standard", "early_stopping": True}
HELD_OUT: Settings = {"validation": 0.02}
"""Set aside by all runs of a figure with early stopping, so that all train on the same images."""
LINE: Settings = {"subspace": "line"}
RECOMMENDED: Settings = LINE | dict.fromkeys(NEUTRAL)
"""The trainer's default recipe: a setting that is None is what the trainer recommends."""
CURVE: Settings = {"subspace": "curve"}
LAYERWISE: Settings = {"subspace": "line", "layerwise": True}
INDEPENDENT: Settings = {"subspace": "ensemble", "endpoints": 2}
INDEPENDENT_NETWORKS = "independent networks"


def simplex(endpoints: int, **settings: object) -> Settings:
    """Return the settings of a simplex; with two endpoints it is a line."""
    return (LINE if endpoints == 2 else {"subspace": "simplex", "endpoints": endpoints}) | settings


def swa(members: int, tail_schedule: str) -> Settings:
    """Return the settings of SWA, which keeps as many networks as a simplex has endpoints."""
    return {"subspace": "swa", "endpoints": members, "tail_schedule": tail_schedule}


def along(scale: Scale, beyond: float = 0.0) -> Along:
    """Return the measure of everything along a subspace."""
    return Along(scale.points, scale.test_images, scale.calibration, beyond)


def alone(scale: Scale, end: int | None = None) -> Alone:
    """Return the measure of one network."""
    return Alone(scale.test_images, scale.calibration, end)


def all_measured(methods: dict[str, Settings], measure: Measure) -> dict[Case, Wanted]:
    """Return one run of each method, all measured the same way."""
    return {Case(name): Wanted(settings, measure) for name, settings in methods.items()}


def deep_ensemble(scale: Scale) -> dict[Case, Wanted]:
    """Return the run of independent networks by which a figure's ensembles are counted; none at some scales."""
    if not scale.deep_ensemble:
        return {}
    settings = INDEPENDENT | {"endpoints": scale.deep_ensemble}
    measure = EnsemblesBySize(scale.test_images, scale.calibration)
    return {Case(INDEPENDENT_NETWORKS, size=scale.deep_ensemble): Wanted(settings, measure)}


def noises(scale: Scale) -> tuple[float, ...]:
    """Return the levels of label noise, 0 among them."""
    return (0.0, *scale.label_noise)


Get = Callable[[Runs], np.ndarray]
"""Gets one number of a case, with one entry per seed."""


def single(runs: Runs, metric: str = "accuracy") -> np.ndarray:
    """Return a metric that was measured once per run, such as that of a single network."""
    return np.array([run[metric] for run in runs])


def midpoint(runs: Runs, metric: str = "accuracy") -> np.ndarray:
    """Return a metric of the network in the middle."""
    return np.array([middle(run)["metrics"][metric] for run in runs])


def ends(runs: Runs, metric: str = "accuracy") -> np.ndarray:
    """Return a metric of the ends together."""
    return np.array([run["endpoints_ensemble"]["metrics"][metric] for run in runs])


def total_variation(runs: Runs) -> np.ndarray:
    """Return the mean total variation between the ends' answers (appendix E)."""
    return np.array([run["endpoints_ensemble"]["total_variation"] for run in runs])


def over_places(name: str, runs: Runs, kind: str, style: str) -> Series:
    """Return accuracy along a line or curve, of single models (`metrics`) or pairs (`ensemble`), in percent."""
    places = [point["alpha"] for point in runs[0]["points"]]
    return Series(name, [[100 * point[kind]["accuracy"] for point in run["points"]] for run in runs], places, style)


def level(name: str, values: np.ndarray, style: str = ":") -> Series:
    """Return a horizontal line, of fractions."""
    return Series(name, (100 * values[:, None]).tolist(), style=style)


def over(name: str, places: Iterable[float], values: Iterable[np.ndarray], factor: float = 100) -> Series:
    """Return a curve over `places`, from one array of values (one per seed) for each."""
    return Series(name, (factor * np.array(list(values)).T).tolist(), list(places))


def over_cases(
    name: str, results: Results, get: Get, fact: Callable[[Case], float | None], factor: float = 1
) -> Series:
    """Return a curve of a number of a method's runs over a fact that sets them apart; `factor` scales the axis."""
    cases = [case for case in results if case.name == name and fact(case) is not None]
    places = [factor * (fact(case) or 0) for case in cases]
    return over(name, places, [get(results[case]) for case in cases])


def over_noise(title: str, results: Results, methods: Sequence[str]) -> SeriesPanel:
    """Return a panel of the accuracy of single networks over label noise."""
    series = [over_cases(name, results, single, lambda case: case.noise, 100) for name in methods]
    return SeriesPanel(title, series, "label noise (%)", ACCURACY)
