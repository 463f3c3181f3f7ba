"""Corrupted images: figures 9, 19 and 20. The paper uses ImageNet; smaller scales use other data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from subspace_serve.data.corruptions import CORRUPTIONS
from subspace_serve.show.plot.series import Series, SeriesPanel
from trainer.reproduce.description import Case, Claim, Figure, Measurement, Results, Runs, Settings, Wanted
from trainer.reproduce.figures.common import (
    ACCURACY,
    LAYERWISE,
    LINE,
    STANDARD,
    all_measured,
    level,
    midpoint,
    over,
    over_places,
)
from trainer.reproduce.measures import Corrupted
from trainer.reproduce.scales import Scale

SHOWN = ("snow", "contrast")
SHOWN_SEVERITIES = (1, 3, 5)
SEVERITY = 3
PUBLISHED = CORRUPTIONS[:15]
"""The fifteen types of ImageNet-C; the other four are its validation types."""

PANELS = ("imagenet", "imagenet-wide")
LINES: dict[str, Settings] = {"line": LINE, "line, layerwise": LAYERWISE}
ONE_NETWORK = Case("standard")


def _runs(scale: Scale, corruptions: tuple[str, ...], severities: tuple[int, ...]) -> dict[Case, Wanted]:
    measure = Corrupted(corruptions, severities, scale.points, scale.corrupted_images, scale.calibration)
    return all_measured(LINES | {ONE_NETWORK.name: STANDARD}, measure)


def _under(runs: Runs, corruption: str, severity: int) -> Runs:
    """Return what the evaluations found for one corruption."""
    wanted = (corruption, severity)
    return [
        next(entry for entry in run["corruptions"] if (entry["corruption"], entry["severity"]) == wanted)
        for run in runs
    ]


def _accuracies(runs: Runs) -> np.ndarray:
    """Return accuracies along a line, (seeds, places)."""
    return np.array([[point["metrics"]["accuracy"] for point in run["points"]] for run in runs])


def _shown_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    line = results[Case("line")]
    clean = _accuracies(line)
    for corruption in SHOWN:
        yield Claim(
            f"Models along a line differ more under {corruption} (severity 5) than on clean images (range over α).",
            np.ptp(_accuracies(_under(line, corruption, 5)), axis=1) - np.ptp(clean, axis=1),
        )
    yield Claim(
        "The line holds a model at least as accurate on clean images as standard training (the best over α).",
        clean.max(axis=1) - midpoint(results[ONE_NETWORK]),
    )


def _shown_picture(title: str, results: Results) -> list[SeriesPanel]:
    def panel(name: str, part: Callable[[Runs], Runs]) -> SeriesPanel:
        series = [
            over_places(label, part(results[Case(label)]), kind, style)
            for label in LINES
            for kind, style in (("metrics", "--"), ("ensemble", "-"))
        ]
        series.append(level(str(ONE_NETWORK), midpoint(part(results[ONE_NETWORK]))))
        return SeriesPanel(f"{title}: {name}", series, "α (dashed: models, solid: ensembles)", ACCURACY)

    return [
        panel("clean", lambda runs: runs),
        *(
            panel(f"{corruption}:{severity}", partial(_under, corruption=corruption, severity=severity))
            for corruption in SHOWN
            for severity in SHOWN_SEVERITIES
        ),
    ]


FIGURE_9 = Figure(
    "9",
    "Accuracy along lines on clean images and under snow and contrast",
    lambda scale: _runs(scale, SHOWN, SHOWN_SEVERITIES),
    _shown_claims,
    _shown_picture,
    panels=PANELS,
    note="The range over α grows a little by chance alone where accuracy falls towards a half.",
)

Pick = Callable[[list[Measurement]], float]
"""Picks one relative change out of those at all places along a line."""


def _middle(points: list[Measurement]) -> float:
    return points[len(points) // 2]["relative_change"]


def _best(points: list[Measurement]) -> float:
    return max(point["relative_change"] for point in points)


def _gains(results: Results, name: str, pick: Pick) -> np.ndarray:
    """Return relative changes of accuracy less those of standard training (appendix G), (seeds, types)."""

    def changes(runs: Runs, picked: Pick) -> np.ndarray:
        return np.array([[picked(entry["points"]) for entry in run["corruptions"]] for run in runs])

    return changes(results[Case(name)], pick) - changes(results[ONE_NETWORK], _middle)


def _gain_claims(scale: Scale, results: Results, who: str, pick: Pick) -> Iterable[Claim]:
    for name in LINES:
        yield Claim(
            f"{who} of a {name} loses relatively less accuracy under corruption than standard training, mean over the "
            "fifteen types.",
            _gains(results, name, pick).mean(axis=1),
        )


def _gain_picture(title: str, results: Results, pick: Pick) -> list[SeriesPanel]:
    ticks = dict(enumerate(PUBLISHED))
    return [
        SeriesPanel(
            f"{title}: {name}",
            [over(name, ticks, _gains(results, name, pick).T), Series("standard training", [[0.0]], style=":")],
            "",
            "relative change less standard's (points)",
            ticks,
        )
        for name in LINES
    ]


FIGURE_19 = Figure(
    "19",
    "Relative change of accuracy under corruption: a line's midpoint less standard training",
    lambda scale: _runs(scale, PUBLISHED, (SEVERITY,)),
    partial(_gain_claims, who="The midpoint", pick=_middle),
    partial(_gain_picture, pick=_middle),
    panels=PANELS,
)

FIGURE_20 = Figure(
    "20",
    "The same for the best model on the line",
    FIGURE_19.runs,
    partial(_gain_claims, who="The best model", pick=_best),
    partial(_gain_picture, pick=_best),
    panels=PANELS,
    note="As in the paper the best α is chosen on the test images themselves, which favours the line; "
    "`subspace-serve select` is the honest way to choose.",
)

FIGURES = (FIGURE_9, FIGURE_19, FIGURE_20)
