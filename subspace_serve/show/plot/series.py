"""Curves or dots over any axis, in panels: the mean over seeds, and one sample standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from subspace_serve.show.plot.style import DOTS_PER_INCH, GREY, check_picture, picture

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Okabe and Ito's colours in an order of falling contrast to the one before.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Series:
    """One curve, or one level where it has no places.

    Attributes:
        label: its name; series of one name have one colour.
        values: a list a seed, one value a place.
        places: where they lie; empty for a horizontal line.
        style: matplotlib's line style.
    """

    label: str
    values: Sequence[Sequence[float]]
    places: Sequence[float] = ()
    style: str = "-"


@dataclass(frozen=True)
class SeriesPanel:
    """One panel.

    Attributes:
        title: above it.
        series: what is drawn.
        x_label: what the places are.
        y_label: what the values are.
        ticks: names of the places, where they are no numbers; values are then dots with bars, not curves.
    """

    title: str
    series: Sequence[Series]
    x_label: str
    y_label: str
    ticks: Mapping[int, str] | None = None


def plot_series(panels: Sequence[SeriesPanel], target: Path, *, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Draw panels side by side, three a row, with one legend.

    Args:
        panels: what is drawn.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        dots_per_inch: of a `.png`.

    Raises:
        SubspaceServeError: another suffix.
    """
    check_picture(target)
    labels = list(dict.fromkeys(series.label for panel in panels for series in panel.series))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    legend_rows = -(-len(labels) // 3)
    size = (3.9 * columns + (1.6 if columns == 1 else 0.4), 3.2 * rows + 0.26 * legend_rows + 0.2)
    with picture(target, size, dots_per_inch=dots_per_inch) as figure:
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


def _draw_panel(axes: Axes, panel: SeriesPanel, labels: Sequence[str]) -> None:
    import numpy as np

    for series in panel.series:
        index = labels.index(series.label)
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        values = np.asarray(series.values, dtype=np.float64)
        mean = values.mean(axis=0)
        deviation = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros_like(mean)
        if len(series.places) == 0:
            axes.axhline(float(mean[0]), linestyle=series.style, color=color, label=series.label, linewidth=1.6)
            axes.axhspan(
                float(mean[0] - deviation[0]), float(mean[0] + deviation[0]), color=color, alpha=0.1, linewidth=0
            )
            continue
        if panel.ticks is not None:
            axes.errorbar(series.places, mean, deviation, fmt=marker, color=color, label=series.label, capsize=3)
            continue
        axes.plot(
            series.places,
            mean,
            series.style,
            marker=marker,
            color=color,
            label=series.label,
            linewidth=1.6,
            markersize=4,
        )
        axes.fill_between(series.places, mean - deviation, mean + deviation, color=color, alpha=0.12, linewidth=0)
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel(panel.x_label, fontsize=9)
    axes.set_ylabel(panel.y_label, fontsize=9)
    axes.tick_params(labelsize=8, colors=GREY)
    if panel.ticks is not None:
        axes.set_xticks(list(panel.ticks), list(panel.ticks.values()), rotation=45, horizontalalignment="right")
