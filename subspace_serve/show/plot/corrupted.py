"""What corruptions do to accuracy: along the subspace (figure 9), at a glance, and beside a standard network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subspace_serve.errors import SubspaceServeError
from subspace_serve.measure.image_sets import CorruptedSet
from subspace_serve.measure.point_results import Result
from subspace_serve.measure.results import Evaluation
from subspace_serve.show.plot.along import draw_places
from subspace_serve.show.plot.documents import (
    as_runs,
    baselines_of,
    clean_and_corrupted,
    corruption_name,
    matched_corruptions,
    mean_and_deviation,
    place_name,
)
from subspace_serve.show.plot.style import (
    BASELINE,
    COLOR_MAP,
    DOTS_PER_INCH,
    GREY,
    SUBSPACE,
    legend_below,
    picture,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 4


def plot_corruptions(
    evaluation: Evaluation | Sequence[Evaluation], target: Path, *, dots_per_inch: int = DOTS_PER_INCH
) -> None:
    """Draw accuracy over the subspace, a panel for clean images and one for each corruption, as in Figure 9.

    Each panel is drawn as `plot_subspace` draws accuracy, with the standard network (`baseline`) dotted. Each panel has
    its own scale, since the point is where on the subspace accuracy is highest.

    Args:
        evaluation: an evaluation with `corruptions`, or a list, one per run, with equal alphas and corruptions.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        dots_per_inch: of a `.png`.

    Raises:
        SubspaceServeError: another suffix, no points or corruptions, or runs that differ in them.
    """
    runs = as_runs(evaluation)
    panels = clean_and_corrupted(runs)
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    with picture(target, (2.5 * columns + 0.5, 2.2 * rows + 0.9), dots_per_inch=dots_per_inch) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for number, (axes, (name, entries)) in enumerate(zip(grid.flat, panels, strict=False)):
            draw_places(axes, entries, "accuracy")
            axes.set_title(plain(name), fontsize=11)
            axes.tick_params(labelsize=9)
            if number + columns < len(panels):
                axes.set_xlabel("")
                axes.tick_params(labelbottom=False)
            if number % columns == 0:
                axes.set_ylabel("Accuracy (%)")
        legend_below(figure, *grid.flat[0].get_legend_handles_labels())


def plot_heatmap(
    evaluation: Evaluation | Sequence[Evaluation], target: Path, *, dots_per_inch: int = DOTS_PER_INCH
) -> None:
    """Draw accuracy as a heat map: a row for clean images and each corruption, a column for each place.

    The cells hold percentages, with the best place of each row in bold; the standard network, when there is one, has a
    column of its own. Several runs give their mean.

    Args:
        evaluation: an evaluation with `corruptions`, or a list, one per run, with equal alphas and corruptions.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        dots_per_inch: of a `.png`.

    Raises:
        SubspaceServeError: another suffix, no points or corruptions, or runs that differ in them.
    """
    runs = as_runs(evaluation)
    rows = clean_and_corrupted(runs)
    names = [place_name(point.alpha) for point in runs[0].ordered]
    values = [
        [_mean_accuracy(points) for points in zip(*(entry.ordered for entry in entries), strict=True)]
        for _, entries in rows
    ]
    best = [max(range(len(row)), key=row.__getitem__) for row in values]
    places, baselines = len(names), [baselines_of(entries) for _, entries in rows]
    if all(baselines):
        names.append("standard")
        values = [[*row, _mean_accuracy(results)] for row, results in zip(values, baselines, strict=True)]
    with picture(target, (2.2 + 0.62 * len(names), 1.3 + 0.34 * len(rows)), dots_per_inch=dots_per_inch) as figure:
        axes = figure.subplots()
        image = axes.imshow(values, cmap=COLOR_MAP, aspect="auto")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_yticks(range(len(rows)), [plain(name) for name, _ in rows])
        long = max(map(len, names)) > 8
        axes.set_xticks(range(len(names)), names, rotation=30 if long else 0, ha="right" if long else "center")
        axes.tick_params(length=0)
        axes.set_xlabel(r"$\alpha$")
        middle = (min(map(min, values)) + max(map(max, values))) / 2
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                axes.text(
                    j, i, f"{value:.1f}", ha="center", va="center", fontsize=9,
                    color="white" if value < middle else "black", weight="bold" if j == best[i] else "normal",
                )  # fmt: skip
        axes.axhline(0.5, color="white", linewidth=3)
        if len(names) > places:
            axes.axvline(places - 0.5, color="white", linewidth=3)
        figure.colorbar(image, label="Accuracy (%)", fraction=0.04, pad=0.01).outline.set_visible(False)


def plot_relative_change(
    evaluation: Evaluation | Sequence[Evaluation], target: Path, *, dots_per_inch: int = DOTS_PER_INCH
) -> None:
    """Draw how much less relative accuracy is lost under corruption than by a standard network (figures 19 and 20).

    The relative change of a network with accuracy a on clean and b on corrupted images is (b - a) / a (appendix G).
    Bars are its difference from the standard network's: positive where the subspace loses less. The left panel is for
    the midpoint (figure 19), if it was measured, and the right one for the place with the best relative change (figure
    20). That is chosen on the very images that are reported, and so is an upper limit to what selection would find.
    Several runs give their mean and one sample standard deviation.

    Args:
        evaluation: an evaluation with `corruptions` and a `baseline`, or a list, one per run.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        dots_per_inch: of a `.png`.

    Raises:
        SubspaceServeError: another suffix, no corruptions, no standard network, or runs that differ.
    """
    runs = as_runs(evaluation)
    matched = matched_corruptions(runs)
    if not all(map(baselines_of, matched)):
        raise SubspaceServeError(
            "Relative change is drawn beside a standard network and the evaluation has none: evaluate with "
            "--baseline RUN."
        )
    panels: dict[str, Callable[[CorruptedSet], float]] = {}
    if runs[0].midpoint is not None:
        panels["Midpoint"] = midpoint_advantage
    panels["Best place (chosen on these images)"] = best_advantage
    names = [corruption_name(entries[0]) for entries in matched]
    size = (4.5 * len(panels) + 0.5, 1.2 + 0.3 * len(names))
    with picture(target, size, dots_per_inch=dots_per_inch) as figure:
        grid = figure.subplots(1, len(panels), sharey=True, sharex=True, squeeze=False)
        for axes, (title, advantage) in zip(grid.flat, panels.items(), strict=True):
            values = [mean_and_deviation([advantage(entry) for entry in entries]) for entries in matched]
            _draw_bars(axes, names, values, deviations=len(runs) > 1)
            axes.set_title(title, fontsize=11)
        figure.supxlabel("Relative change less the standard network's (percentage points; right is better)", size=10)


def midpoint_advantage(entry: CorruptedSet) -> float:
    """Return the midpoint's relative change less the standard network's, for one corruption (figure 19)."""
    return change_of(entry.midpoint) - change_of(entry.baseline)


def best_advantage(entry: CorruptedSet) -> float:
    """Return the best relative change in the subspace less the standard network's, for one corruption (figure 20)."""
    return max(map(change_of, entry.points)) - change_of(entry.baseline)


def change_of(result: Result | None) -> float:
    """Return a result's relative change; 0 where it was not measured."""
    return (result and result.relative_change) or 0.0


def _draw_bars(axes: Axes, names: list[str], values: Sequence[tuple[float, float]], *, deviations: bool) -> None:
    means = [mean for mean, _ in values]
    axes.barh(
        range(len(names)),
        means,
        xerr=[deviation for _, deviation in values] if deviations else None,
        color=[SUBSPACE if mean >= 0 else BASELINE for mean in means],
        hatch=["" if mean >= 0 else "///" for mean in means],
        edgecolor="white",
        capsize=3,
        zorder=2,
    )
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(names)), list(map(plain, names)))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _mean_accuracy(results: Sequence[Result]) -> float:
    """Return the mean accuracy over runs, in percent."""
    return mean_and_deviation([result.accuracy for result in results])[0]
