"""Accuracy and calibration along a line or curve, or at a simplex's points (figures 4 to 6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subspace_serve.measure.image_sets import ImageSet
from subspace_serve.measure.point_results import Result
from subspace_serve.measure.results import Evaluation
from subspace_serve.show.plot.documents import as_runs, baselines_of, place_name
from subspace_serve.show.plot.series import Series, draw_curve, draw_dots, draw_level
from subspace_serve.show.plot.style import BASELINE, DOTS_PER_INCH, SUBSPACE, legend_below, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = {"accuracy": "Accuracy (%)", "ece": "Expected calibration error (%)"}
_SIZE_INCHES = (9.0, 3.6)


def plot_subspace(
    evaluation: Evaluation | Sequence[Evaluation], target: Path, *, dots_per_inch: int = DOTS_PER_INCH
) -> None:
    """Draw accuracy (left) and expected calibration error (right) over the subspace, as in Figure 6.

    Single models P(alpha) are dashed, ensembles of P(alpha) and P(1 - alpha) solid, and a standard network (`baseline`)
    is a dotted horizontal line; several runs give their mean and a band of one sample standard deviation. A simplex's
    points stand side by side above their names, with a solid line for the ensemble of its endpoints.

    Args:
        evaluation: of one run, or a list, one per run, with equal alphas.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        dots_per_inch: of a `.png`; the picture is 9 by 3.6 inches.

    Raises:
        SubspaceServeError: another suffix, no points, or runs that were evaluated at different alphas.
    """
    runs = as_runs(evaluation)
    with picture(target, _SIZE_INCHES, dots_per_inch=dots_per_inch) as figure:
        panels = figure.subplots(1, len(_PANELS))
        for axes, (metric, title) in zip(panels, _PANELS.items(), strict=True):
            axes.set_title(title)
            draw_places(axes, runs, metric)
        legend_below(figure, *panels[0].get_legend_handles_labels())


def draw_places(axes: Axes, runs: Sequence[ImageSet], metric: str) -> None:
    """Draw one metric over the places of a subspace and of the standard network, the mean over `runs`.

    All runs have the same places.
    """
    draw = _draw_simplex if isinstance(runs[0].points[0].alpha, Sequence) else _draw_path
    draw(axes, runs, metric)
    if baselines := baselines_of(runs):
        draw_level(axes, _level("Standard network", baselines, metric, ":"), BASELINE)


def _draw_path(axes: Axes, runs: Sequence[ImageSet], metric: str) -> None:
    """Draw one metric along the alphas of a line or a curve."""
    alphas = [float(point.alpha) for point in runs[0].ordered]  # type: ignore[arg-type]
    single = [[100 * point.metrics[metric] for point in run.ordered] for run in runs]
    draw_curve(
        axes, Series(r"Single model $P(\alpha)$", single, alphas, "--"), SUBSPACE, marker="o", markerfacecolor="white"
    )
    if all(run.has_pairs for run in runs):
        pairs = [[100 * (point.ensemble or {})[metric] for point in run.ordered] for run in runs]
        draw_curve(axes, Series(r"Ensemble of $P(\alpha)$ and $P(1-\alpha)$", pairs, alphas), SUBSPACE, marker="o")
    axes.set_xlabel(r"$\alpha$")


def _draw_simplex(axes: Axes, runs: Sequence[ImageSet], metric: str) -> None:
    """Draw one metric at the points of a simplex, and that of the ensemble of its endpoints.

    Points are dots because the differences are small compared with the values: bars could not start at zero.
    """
    names = [place_name(point.alpha) for point in runs[0].points]
    single = [[100 * point.metrics[metric] for point in run.points] for run in runs]
    dots = Series(r"Single model $P(\alpha)$", single, range(len(names)))
    draw_dots(axes, dots, SUBSPACE, marker="o", markersize=8, capsize=4, markerfacecolor="white", markeredgewidth=2)
    together = [run.endpoints_ensemble for run in runs if run.endpoints_ensemble is not None]
    if len(together) == len(runs):
        draw_level(axes, _level("Ensemble of the endpoints", together, metric, "-"), SUBSPACE)
    axes.set_xticks(range(len(names)), names, rotation=30, horizontalalignment="right")
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(visible=False, axis="x")


def _level(label: str, results: Sequence[Result], metric: str, style: str) -> Series:
    """Return a series that belongs to no place, one result per run."""
    return Series(label, [[100 * result.metrics[metric]] for result in results], style=style)
