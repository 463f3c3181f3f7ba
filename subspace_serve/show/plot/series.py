"""Curves or dots over any axis, in panels: the mean over seeds, and one sample standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace_serve.show.plot.style import GREY, picture

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Okabe and Ito's colours, ordered so that neighbours contrast.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
_BAND = 0.14
"""How opaque a band is."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Series:
    """One curve, or one horizontal line where it has no places.

    Attributes:
        label: its name; series with the same name have the same colour.
        values: one list per seed, one value per place.
        places: their positions on the x axis; empty for a horizontal line.
        style: matplotlib's line style.
    """

    label: str
    values: Sequence[Sequence[float]]
    places: Sequence[float] = ()
    style: str = "-"

    def means_and_deviations(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the means over seeds and the sample standard deviations (0 for a single seed), one per place."""
        values = np.asarray(self.values, dtype=np.float64)
        means = values.mean(axis=0)
        return means, values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros_like(means)


@dataclass(frozen=True)
class SeriesPanel:
    """One panel.

    Attributes:
        title: above it.
        series: what is drawn.
        x_label: what the places are.
        y_label: what the values are.
        ticks: names of the places, where they are not numbers; values are then dots with bars, not curves.
    """

    title: str
    series: Sequence[Series]
    x_label: str
    y_label: str
    ticks: Mapping[int, str] | None = None


def plot_series(panels: Sequence[SeriesPanel], target: Path) -> None:
    """Draw panels side by side, three per row, with one legend.

    Args:
        panels: what is drawn.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.

    Raises:
        SubspaceServeError: another suffix.
    """
    labels = list(dict.fromkeys(series.label for panel in panels for series in panel.series))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    legend_rows = -(-len(labels) // 3)
    size = (3.9 * columns + (1.6 if columns == 1 else 0.4), 3.2 * rows + 0.26 * legend_rows + 0.2)
    with picture(target, size) as figure:
        every = figure.subplots(rows, columns, squeeze=False).flat
        handles: dict[str, Artist] = {}
        for axes, panel in zip(every, panels, strict=False):
            _draw_panel(axes, panel, labels)
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        for axes in list(figure.axes)[len(panels) :]:
            axes.remove()
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=3, frameon=False, fontsize=9
        )


def draw_curve(axes: Axes, series: Series, color: str, **look: Any) -> None:
    """Draw the mean over seeds, and a band of one sample standard deviation where there are several."""
    means, deviations = series.means_and_deviations()
    axes.plot(series.places, means, series.style, color=color, label=series.label, **look)
    if len(series.values) > 1:
        axes.fill_between(series.places, means - deviations, means + deviations, color=color, alpha=_BAND, linewidth=0)


def draw_dots(axes: Axes, series: Series, color: str, **look: Any) -> None:
    """Draw the means over seeds as dots, with bars of one sample standard deviation where there are several."""
    means, deviations = series.means_and_deviations()
    bars = deviations if len(series.values) > 1 else None
    axes.errorbar(series.places, means, yerr=bars, linestyle="none", color=color, label=series.label, **look)


def draw_level(axes: Axes, series: Series, color: str, **look: Any) -> None:
    """Draw the mean of one number per seed as a horizontal line, with the band of `draw_curve`."""
    means, deviations = (float(number[0]) for number in series.means_and_deviations())
    axes.axhline(means, linestyle=series.style, color=color, label=series.label, **look)
    if len(series.values) > 1:
        axes.axhspan(means - deviations, means + deviations, color=color, alpha=_BAND, linewidth=0)


def _draw_panel(axes: Axes, panel: SeriesPanel, labels: Sequence[str]) -> None:
    for series in panel.series:
        index = labels.index(series.label)
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        if len(series.places) == 0:
            draw_level(axes, series, color, linewidth=1.6)
        elif panel.ticks is not None:
            draw_dots(axes, series, color, marker=marker, capsize=3)
        else:
            draw_curve(axes, series, color, marker=marker, linewidth=1.6, markersize=4)
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel(panel.x_label, fontsize=9)
    axes.set_ylabel(panel.y_label, fontsize=9)
    axes.tick_params(labelsize=8, colors=GREY)
    if panel.ticks is not None:
        axes.set_xticks(list(panel.ticks), list(panel.ticks.values()), rotation=45, horizontalalignment="right")
