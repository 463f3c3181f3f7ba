"""Reliability diagrams: how often a network is right, by how confident it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from subspace_serve.errors import SubspaceServeError
from subspace_serve.measure.image_sets import ImageSet
from subspace_serve.measure.point_results import Bins, Document
from subspace_serve.show.plot.documents import deployable
from subspace_serve.show.plot.style import BASELINE, DOTS_PER_INCH, GREY, SUBSPACE, legend_below, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 4


def reliability_diagrams(evaluation: ImageSet) -> dict[str, Bins]:
    """Return the bins that an evaluation has for the midpoint, the ends, their ensemble and the standard network."""
    found = {name: result.reliability for name, result in deployable(evaluation).items()}
    return {name: bins for name, bins in found.items() if bins}


def calibration_error(bins: Bins) -> float:
    """Return the expected calibration error of the bins, in [0, 1]: the mean gap, weighted by images."""
    total = sum(part["count"] for part in bins)
    return sum(part["count"] * abs(part["confidence"] - part["accuracy"]) for part in _filled(bins)) / max(total, 1)


def plot_reliability(diagrams: Mapping[str, Bins], target: Path, *, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Draw accuracy against confidence, and below it the share of images with that confidence.

    Bars are the accuracy in each bin; a hatched part reaches from there to the mean confidence, so a long one shows
    poor calibration. A perfectly calibrated network's bars end on the diagonal.

    Args:
        diagrams: bins by the network's name.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        dots_per_inch: of a `.png`.

    Raises:
        SubspaceServeError: another suffix, or nothing to draw.
    """
    if not any(_filled(bins) for bins in diagrams.values()):
        raise SubspaceServeError("There is nothing to draw: the evaluation has no reliability bins.")
    rows = math.ceil(len(diagrams) / _COLUMNS)
    columns = math.ceil(len(diagrams) / rows)
    with picture(target, (2.5 * columns + 0.6, 3.3 * rows + 0.5), dots_per_inch=dots_per_inch) as figure:
        grid = figure.subplots(2 * rows, columns, height_ratios=[3, 1] * rows, sharex=True, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for number, (name, bins) in enumerate(diagrams.items()):
            row, column = divmod(number, columns)
            above, below = grid[2 * row, column], grid[2 * row + 1, column]
            _draw_diagram(above, bins)
            _draw_counts(below, bins)
            above.set_title(f"{name}\nECE {100 * calibration_error(bins):.2f} %", fontsize=10)
            if column == 0:
                above.set_ylabel("Accuracy (%)")
                below.set_ylabel("Images (%)")
        legend_below(figure, *grid[0, 0].get_legend_handles_labels())


def _draw_diagram(axes: Axes, bins: Bins) -> None:
    width = 100 / len(bins)
    parts = [(100 * (index + 0.5) / len(bins), part) for index, part in enumerate(bins) if part["count"]]
    centres = [centre for centre, _ in parts]
    accuracies = [100 * part["accuracy"] for _, part in parts]
    gaps = [100 * (part["confidence"] - part["accuracy"]) for _, part in parts]
    axes.set_axis_on()
    axes.bar(centres, accuracies, width, color=SUBSPACE, edgecolor="white", linewidth=0.5, label="Accuracy", zorder=2)
    axes.bar(
        centres, gaps, width, bottom=accuracies, facecolor="none", edgecolor=BASELINE, hatch="////", linewidth=0.8,
        label="Gap to the confidence", zorder=3,
    )  # fmt: skip
    axes.plot([0, 100], [0, 100], ":", color=GREY, linewidth=1.5, label="Perfectly calibrated", zorder=4)
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.tick_params(labelbottom=False)


def _draw_counts(axes: Axes, bins: Bins) -> None:
    total = sum(part["count"] for part in bins)
    centres = [100 * (index + 0.5) / len(bins) for index in range(len(bins))]
    shares = [100 * part["count"] / total for part in bins]
    axes.set_axis_on()
    axes.bar(centres, shares, 100 / len(bins), color=GREY, edgecolor="white", linewidth=0.5, zorder=2)
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="Confidence (%)")
    axes.tick_params(labelbottom=True)


def _filled(bins: Bins) -> list[Document]:
    return [part for part in bins if part["count"]]
