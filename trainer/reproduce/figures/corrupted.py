"""Corrupted images: figures 9, 19 and 20. On ImageNet in the paper; made on other data where that is not at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from subspace_serve.data.corruptions import CORRUPTIONS
from subspace_serve.show.plot.series import Series, SeriesPanel
from trainer.reproduce.description import Claim, Figure, Measurement, Results, Settings, Wanted
from trainer.reproduce.figures.common import LAYERWISE, LINE, STANDARD, draw_panels, over_places
from trainer.reproduce.measures import Corrupted
from trainer.reproduce.scales import Scale

SHOWN = ("snow", "contrast")
SHOWN_SEVERITIES = (1, 3, 5)
SEVERITY = 3
PUBLISHED = CORRUPTIONS[:15]
"""The fifteen types of ImageNet-C; the other four are its validation types."""

_LINES: dict[str, Settings] = {"line": LINE, "line, layerwise": LAYERWISE}
_STANDARD = "standard"


def _shown(scale: Scale) -> dict[str, Wanted]:
    measure = Corrupted(SHOWN, SHOWN_SEVERITIES, scale.points, scale.corrupted_images, scale.calibration)
    return {name: Wanted(settings, measure) for name, settings in {**_LINES, _STANDARD: STANDARD}.items()}


def _draw_shown(panels: Mapping[str, Results], target: Path) -> None:
    def build(title: str, results: Results) -> list[SeriesPanel]:
        parts = []
        for name in ("clean", *(f"{c}:{s}" for c in SHOWN for s in SHOWN_SEVERITIES)):
            series: list[Series] = []
            for label in _LINES:
                documents = [_under(run, name) for run in results[label]]
                series += [over_places(label, documents, "metrics", "accuracy", "--")]
                series += [over_places(label, documents, "ensemble", "accuracy", "-")]
            standard = [[100 * _under(run, name)["points"][0]["metrics"]["accuracy"]] for run in results[_STANDARD]]
            series.append(Series(_STANDARD, standard, style=":"))
            parts.append(
                SeriesPanel(f"{title}: {name}", series, "α (dashed: models, solid: ensembles)", "test accuracy (%)")
            )
        return parts

    draw_panels(panels, target, build)


def _under(run: Measurement, name: str) -> dict[str, Any]:
    """Return an evaluation's part for one corruption, `fog:3`, or for `clean`."""
    if name == "clean":
        return run
    kind, _, severity = name.partition(":")
    return next(
        entry for entry in run["corruptions"] if entry["corruption"] == kind and entry["severity"] == int(severity)
    )


def _range(document: dict[str, Any]) -> float:
    accuracies = [point["metrics"]["accuracy"] for point in document["points"]]
    return max(accuracies) - min(accuracies)


def _added_range(kind: str):
    """Return what gives, seed by seed, by how much models along a line differ more under a corruption."""
    return lambda results: [_range(_under(run, f"{kind}:5")) - _range(run) for run in results["line"]]


FIGURE_9 = Figure(
    "9",
    "Accuracy along lines on clean images and under snow and contrast",
    runs=_shown,
    draw=_draw_shown,
    claims=lambda scale: (
        [
            Claim(
                f"Models along a line differ more under {kind} (severity 5) than on clean images (range over α).",
                _added_range(kind),
            )
            for kind in SHOWN
        ]
        + [
            Claim(
                "The line holds a model at least as accurate on clean images as standard training (the best over α).",
                lambda results: [
                    max(point["metrics"]["accuracy"] for point in line["points"])
                    - other["points"][0]["metrics"]["accuracy"]
                    for line, other in zip(results["line"], results[_STANDARD], strict=True)
                ],
            )
        ]
    ),
    panels=("imagenet", "imagenet-wide"),
    note="The range over α grows a little by chance alone where accuracy falls towards a half.",
)


def _every_type(scale: Scale) -> dict[str, Wanted]:
    measure = Corrupted(PUBLISHED, (SEVERITY,), scale.points, scale.corrupted_images, scale.calibration)
    return {name: Wanted(settings, measure) for name, settings in {**_LINES, _STANDARD: STANDARD}.items()}


Pick = Callable[[list[dict[str, Any]]], float]
"""A relative change out of those of all places along a line."""


def _middle(points: list[dict[str, Any]]) -> float:
    return points[len(points) // 2]["relative_change"]


def _best(points: list[dict[str, Any]]) -> float:
    return max(point["relative_change"] for point in points)


def _gains(results: Results, label: str, pick: Pick) -> list[dict[str, float]]:
    """Return for each seed and type the relative change of accuracy, less that of standard training (appendix G)."""
    gains = []
    for line, standard in zip(results[label], results[_STANDARD], strict=True):
        gains.append(
            {
                ours["corruption"]: pick(ours["points"]) - theirs["points"][0]["relative_change"]
                for ours, theirs in zip(line["corruptions"], standard["corruptions"], strict=True)
            }
        )
    return gains


def _draw_gains(pick: Pick):
    def draw(panels: Mapping[str, Results], target: Path) -> None:
        def build(title: str, results: Results) -> list[SeriesPanel]:
            ticks = dict(enumerate(PUBLISHED))
            parts = []
            for label in _LINES:
                values = [[100 * gain[name] for name in PUBLISHED] for gain in _gains(results, label, pick)]
                series = [
                    Series(label, values, list(ticks)),
                    Series("standard training", [[0.0]], style=":"),
                ]
                parts.append(
                    SeriesPanel(f"{title}: {label}", series, "", "relative change less standard's (points)", ticks)
                )
            return parts

        draw_panels(panels, target, build)

    return draw


def _mean_gain(label: str, pick: Pick):
    return lambda results: [sum(gain.values()) / len(gain) for gain in _gains(results, label, pick)]


def _gain_claims(who: str, pick: Pick):
    def claims(scale: Scale) -> list[Claim]:
        return [
            Claim(
                f"{who} of a {label} loses relatively less accuracy under corruption than standard training, mean over "
                "the fifteen types.",
                _mean_gain(label, pick),
            )
            for label in _LINES
        ]

    return claims


FIGURE_19 = Figure(
    "19",
    "Relative change of accuracy under corruption: a line's midpoint less standard training",
    runs=_every_type,
    draw=_draw_gains(_middle),
    claims=_gain_claims("The midpoint", _middle),
    panels=("imagenet", "imagenet-wide"),
)

FIGURE_20 = Figure(
    "20",
    "The same for the best model on the line",
    runs=_every_type,
    draw=_draw_gains(_best),
    claims=_gain_claims("The best model", _best),
    panels=("imagenet", "imagenet-wide"),
    note="As in the paper the best α is chosen on the test images themselves, which favours the line; "
    "`subspace-serve select` is the honest way to choose.",
)

FIGURES = (FIGURE_9, FIGURE_19, FIGURE_20)
