"""What the figures' descriptions share: settings, ways into a measurement, and differences between runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from subspace_serve.show.plot.series import Series, SeriesPanel, plot_series
from trainer.reproduce.description import Claim, Get, Measurement, Results, Settings
from trainer.reproduce.measures import Alone, Along
from trainer.reproduce.scales import Scale

STANDARD: Settings = {"subspace": "standard"}
EARLY_STOPPING: Settings = {"subspace": "standard", "early_stopping": True, "validation": 0.02}
LINE: Settings = {"subspace": "line"}
CURVE: Settings = {"subspace": "curve"}
LAYERWISE: Settings = {"subspace": "line", "layerwise": True}
INDEPENDENT: Settings = {"subspace": "ensemble", "endpoints": 2}


def simplex(endpoints: int, **settings: Any) -> Settings:
    """Return the settings of a simplex; one of two endpoints is a line."""
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


def midpoint(metric: str = "accuracy") -> Get:
    """Return what gives a metric of the network in the middle."""

    def get(measured: Measurement) -> float:
        points = measured["points"]
        middle = points[-1] if measured["geometry"] == "simplex" else points[len(points) // 2]
        return middle["metrics"][metric]

    return get


def ends_ensemble(metric: str = "accuracy") -> Get:
    """Return what gives a metric of the ends together."""
    return lambda measured: measured["endpoints_ensemble"]["metrics"][metric]


def total_variation(measured: Measurement) -> float:
    """Return the mean total variation between the ends' answers (appendix E)."""
    return measured["endpoints_ensemble"]["total_variation"]


def plain(metric: str = "accuracy") -> Get:
    """Return what gives a metric of one network that was measured alone."""
    return lambda measured: measured[metric]


def less(first: str, get_first: Get, second: str, get_second: Get | None = None) -> Callable[[Results], list[float]]:
    """Return what gives, seed by seed, the first run's number less the second's."""
    other = get_second or get_first
    return lambda results: [get_first(a) - other(b) for a, b in zip(results[first], results[second], strict=True)]


def more_accurate(text: str, first: str, get_first: Get, second: str, get_second: Get) -> Claim:
    """Return a claim that the first is more accurate than the second."""
    return Claim(text, less(first, get_first, second, get_second))


def as_accurate(text: str, first: str, get_first: Get, second: str, get_second: Get, margin: float = 0.0) -> Claim:
    """Return a claim that the first is at least as accurate as the second, but for a margin."""
    return Claim(text, less(first, get_first, second, get_second), margin=margin, strict=False)


def over_places(label: str, runs: Sequence[Measurement], kind: str, metric: str, style: str) -> Series:
    """Return one metric along a line or curve, of single models (`metrics`) or pairs (`ensemble`), in percent."""
    places = [point["alpha"] for point in runs[0]["points"]]
    values = [[100 * point[kind][metric] for point in run["points"]] for run in runs]
    return Series(label, values, places, style)


def level(label: str, runs: Sequence[Measurement], get: Get, style: str = ":", factor: float = 100) -> Series:
    """Return a horizontal line."""
    return Series(label, [[factor * get(run)] for run in runs], style=style)


def over(label: str, places: Sequence[float], runs: Sequence[tuple[Sequence[Measurement], Get]], factor: float = 100,
         style: str = "-") -> Series:  # fmt: skip
    """Return one number of several runs over what sets these apart."""
    seeds = range(min(len(measured) for measured, _ in runs))
    return Series(label, [[factor * get(measured[s]) for measured, get in runs] for s in seeds], places, style)


def draw_panels(
    panels: Mapping[str, Results], target: Path, build: Callable[[str, Results], Sequence[SeriesPanel]]
) -> None:
    """Draw what `build` makes of each of a scale's panels, one after another."""
    plot_series([part for title, results in panels.items() for part in build(title, results)], target)
