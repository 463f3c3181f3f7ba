"""Selections: each choice's gain over the midpoint with its interval, and the candidates that it was chosen from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subspace_serve.errors import SubspaceServeError
from subspace_serve.measure.point_results import Document
from subspace_serve.show.plot.documents import place_name
from subspace_serve.show.plot.style import BASELINE, DOTS_PER_INCH, GREY, SUBSPACE, picture
from subspace_serve.space.place import is_midpoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC_NAMES = {"accuracy": "accuracy (%)", "ece": "ECE (%)", "nll": "NLL (nats)", "brier": "Brier score"}
_GAIN_UNITS = {"accuracy": "percentage points", "ece": "percentage points", "nll": "nats", "brier": ""}
_IN_PERCENT = ("accuracy", "ece")
_COLUMNS = 3


def in_units(metric: str, value: float) -> float:
    """Return a metric's value in the units in which it is shown: accuracy and ECE in percent."""
    return 100 * value if metric in _IN_PERCENT else value


def gain_unit(selection: Document) -> str:
    """Return the unit of a selection's gains: what it was `compared_by`, or the unit of its metric.

    Selections by `ece` without `compared_by` are older, and their gains are in the plain expected calibration error.
    """
    return str(selection.get("compared_by") or _GAIN_UNITS[selection["metric"]])


def gain_in_units(selection: Document, value: float) -> float:
    """Return a gain in its `gain_unit`."""
    return value if selection.get("compared_by") else in_units(selection["metric"], value)


def candidate_name(candidate: Document) -> str:
    """Return a place's alpha, or an ensemble's members joined by `+`."""
    if "alpha" in candidate:
        return place_name(candidate["alpha"])
    return " + ".join(member if isinstance(member, str) else place_name(member) for member in candidate["members"])


def shown_gain(selection: Document) -> Document | None:
    """Return the gain to show: the choice's, or where the midpoint was kept that of the best candidate."""
    if selection.get("kept_midpoint") and selection.get("best"):
        return selection["best"].get("gain")
    return selection.get("gain")


def plot_selections(selections: Mapping[str, Document], target: Path, *, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Draw each selection's gain over the midpoint (above), and the grid that it was chosen from (below).

    Gains are on images that had no part in the choice, with their 95 % interval; where the midpoint was kept, a hollow
    mark is the gain of the best candidate that was not taken. Grids are on the images to choose on, with one standard
    error; the chosen place is ringed, and the midpoint is a dotted line.

    Args:
        selections: by name, as in `selections.json`.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        dots_per_inch: of a `.png`.

    Raises:
        SubspaceServeError: another suffix, or no selections.
    """
    if not selections:
        raise SubspaceServeError("There are no selections to draw: choose one with `subspace-serve select`.")
    by_unit: dict[tuple[str, str], dict[str, Document]] = {}
    for name, selection in selections.items():
        if shown_gain(selection):
            by_unit.setdefault((selection["metric"], gain_unit(selection)), {})[name] = selection
    columns = min(_COLUMNS, len(selections))
    rows = math.ceil(len(selections) / columns)
    heights = [0.7 + 0.35 * len(group) for group in by_unit.values()]
    size = (max(3.0 * columns + 0.5, 6.5), sum(heights) + 2.4 * rows + 0.5)
    with picture(target, size, dots_per_inch=dots_per_inch) as figure:
        parts = figure.subfigures(len(heights) + 1, 1, height_ratios=[*heights, 2.4 * rows], squeeze=False)[:, 0]
        for part, ((metric, unit), group) in zip(parts, by_unit.items(), strict=False):
            _draw_gains(part.subplots(), metric, unit, group)
        grid = parts[-1].subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(selections) :]:
            axes.set_axis_off()
        for axes, (name, selection) in zip(grid.flat, selections.items(), strict=False):
            _draw_grid(axes, name, selection)


def _draw_gains(axes: Axes, metric: str, unit: str, selections: Mapping[str, Document]) -> None:
    for row, selection in enumerate(selections.values()):
        gain = shown_gain(selection) or {}
        value, low, high = (gain_in_units(selection, number) for number in (gain["value"], *gain["interval"]))
        fill = "white" if selection.get("kept_midpoint") else SUBSPACE
        # A percentile interval need not contain the value itself, so it is drawn on its own and not as error bars.
        axes.plot([low, high], [row, row], "-|", color=SUBSPACE)
        axes.plot(value, row, "o", color=SUBSPACE, markersize=7, markerfacecolor=fill)
    axes.axvline(0, color=GREY, linewidth=1)
    names = [f"{name} (not taken)" if selections[name].get("kept_midpoint") else name for name in selections]
    axes.set_yticks(range(len(selections)), names)
    axes.set_ylim(len(selections) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    name, interval = METRIC_NAMES[metric].partition(" (")[0], f"95 % interval, {unit}" if unit else "95 % interval"
    axes.set_title(f"Gain in {name} over the midpoint ({interval}; right is better)", fontsize=10)


def _draw_grid(axes: Axes, name: str, selection: Document) -> None:
    metric = selection["metric"]
    grid = sorted(selection["grid"], key=_sort_key)
    numeric = all("alpha" in place and not isinstance(place["alpha"], Sequence) for place in grid)
    places: Sequence[float] = [place["alpha"] for place in grid] if numeric else range(len(grid))
    values = [in_units(metric, place[metric]) for place in grid]
    errors = [in_units(metric, place.get("standard_error") or 0.0) for place in grid]
    axes.errorbar(
        places, values, yerr=errors, fmt="-o" if numeric else "o", color=SUBSPACE, linewidth=1, markersize=4, capsize=2
    )
    for place, value, candidate in zip(places, values, grid, strict=True):
        if _same(candidate, selection):
            axes.plot(place, value, "o", markersize=12, markerfacecolor="none", markeredgecolor=BASELINE)
        if "alpha" in candidate and is_midpoint(candidate["alpha"]):
            axes.axvline(place, linestyle=":", color=GREY, linewidth=1)
    if not numeric:
        axes.set_xticks(places, [candidate_name(candidate) for candidate in grid], rotation=60, ha="right", fontsize=7)
    axes.set_xlabel(r"$\alpha$" if numeric else "")
    axes.set_title(f"{name}: {METRIC_NAMES[metric]}", fontsize=10)
    axes.tick_params(axis="y", labelsize=9)


def _sort_key(place: Document) -> Any:
    alpha = place.get("alpha")
    return (0, alpha) if alpha is not None and not isinstance(alpha, Sequence) else (1, 0.0)


def _same(candidate: Document, selection: Document) -> bool:
    key = "alpha" if "alpha" in candidate else "members"
    return key in selection and _plain(candidate[key]) == _plain(selection[key])


def _plain(value: Any) -> Any:
    """Return tuples as lists, as they come from a JSON file."""
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value
