"""Accuracy and calibration along a line or curve, or at a simplex's points (figures 4 to 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subspace_serve.measure.results import Evaluation, ImageSet, Metrics, Point
from subspace_serve.show.plot.documents import as_runs, baselines_of, mean_and_deviation, place_name
from subspace_serve.show.plot.style import BASELINE, DOTS_PER_INCH, SUBSPACE, check_picture, legend_below, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = {"accuracy": "Accuracy (%)", "ece": "Expected calibration error (%)"}
_SIZE_INCHES = (9.0, 3.6)


def plot_subspace(
    evaluation: Evaluation | Sequence[Evaluation], target: Path, *, dots_per_inch: int = DOTS_PER_INCH
) -> None:
    """Draw accuracy (left) and expected calibration error (right) over the subspace, as in Figure 6.

    Single models P(alpha) are dashed, ensembles of P(alpha) and P(1 - alpha) solid, a standard network (`baseline`) is
    a dotted horizontal line; several runs give their mean and a band of one sample standard deviation. A
    simplex's points stand side by side under their names, with a solid line for its endpoints' ensemble.

    Args:
        evaluation: of one run, or a list of these, one a run, with equal alphas.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        dots_per_inch: of a `.png`; the picture is 9 by 3.6 inches.

    Raises:
        SubspaceServeError: another suffix, no points, or runs that were evaluated at different alphas.
    """
    check_picture(target)
    runs = as_runs(evaluation)
    with picture(target, _SIZE_INCHES, dots_per_inch=dots_per_inch) as figure:
        panels = figure.subplots(1, len(_PANELS))
        for axes, (metric, title) in zip(panels, _PANELS.items(), strict=True):
            axes.set_title(title)
            draw_places(axes, runs, metric)
        legend_below(figure, panels[0])


def draw_places(axes: Axes, runs: Sequence[ImageSet], metric: str) -> None:
    """Draw one metric over the places of a subspace and of the standard network, the mean over `runs`.

    All runs have the same places.
    """
    draw = _draw_simplex if isinstance(runs[0].points[0].alpha, Sequence) else _draw_path
    draw(axes, runs, metric)
    if baselines := baselines_of(runs):
        _draw_level(axes, [result.metrics[metric] for result in baselines], ":", BASELINE, "Standard network")


def _draw_level(axes: Axes, values: Sequence[float], style: str, color: str, label: str) -> None:
    """Draw a number that belongs to no place, one a run: a horizontal line."""
    mean, deviation = mean_and_deviation(values)
    axes.axhline(mean, linestyle=style, color=color, label=label)
    if len(values) > 1:
        axes.axhspan(mean - deviation, mean + deviation, color=color, alpha=0.12, linewidth=0)


def _draw_path(axes: Axes, runs: Sequence[ImageSet], metric: str) -> None:
    """One metric along the alphas of a line or a curve."""
    alphas = [point.alpha for point in runs[0].ordered]

    def draw(style: str, fill: str, label: str, metrics: Callable[[Point], Metrics]) -> None:
        means, deviations = _over_points(runs, lambda point: metrics(point)[metric])
        axes.plot(alphas, means, style, color=SUBSPACE, markerfacecolor=fill, label=label)
        if len(runs) > 1:
            low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
            high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
            axes.fill_between(alphas, low, high, color=SUBSPACE, alpha=0.15, linewidth=0)

    draw("--o", "white", r"Single model $P(\alpha)$", lambda point: point.metrics)
    if all(run.has_pairs for run in runs):
        draw("-o", SUBSPACE, r"Ensemble of $P(\alpha)$ and $P(1-\alpha)$", lambda point: point.ensemble or {})
    axes.set_xlabel(r"$\alpha$")


def _draw_simplex(axes: Axes, runs: Sequence[ImageSet], metric: str) -> None:
    """One metric at the points of a simplex, and that of its endpoints together.

    Dots, because the differences are small beside the values: bars would have to start away from zero.
    """
    names = [place_name(point.alpha) for point in runs[0].points]
    means, deviations = _over_points(runs, lambda point: point.metrics[metric])
    axes.errorbar(
        range(len(names)),
        means,
        yerr=deviations if len(runs) > 1 else None,
        fmt="o",
        markersize=8,
        capsize=4,
        color=SUBSPACE,
        markerfacecolor="white",
        markeredgewidth=2,
        label=r"Single model $P(\alpha)$",
    )
    together = [run.endpoints_ensemble.metrics[metric] for run in runs if run.endpoints_ensemble is not None]
    if len(together) == len(runs):
        _draw_level(axes, together, "-", SUBSPACE, "Ensemble of the endpoints")
    axes.set_xticks(range(len(names)), names, rotation=30, horizontalalignment="right")
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(visible=False, axis="x")


def _over_points(runs: Sequence[ImageSet], value: Callable[[Point], float]) -> tuple[list[float], list[float]]:
    """Return means and sample standard deviations over runs, at each point in order, in percent."""
    pairs = [
        mean_and_deviation([value(point) for point in points])
        for points in zip(*(run.ordered for run in runs), strict=True)
    ]
    return [mean for mean, _ in pairs], [deviation for _, deviation in pairs]
