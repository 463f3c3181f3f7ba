"""Accuracy and calibration along a line or curve, or at a simplex's points (figures 4 to 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subspace_serve.show.plot.documents import (
    Document,
    as_runs,
    has_kind,
    mean_and_deviation,
    order_of,
    place_name,
    series,
)
from subspace_serve.show.plot.style import BASELINE, DOTS_PER_INCH, SUBSPACE, check_picture, legend_below, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = {"accuracy": "Accuracy (%)", "ece": "Expected calibration error (%)"}
_SIZE_INCHES = (9.0, 3.6)


def plot_subspace(
    evaluation: Document | Sequence[Document],
    target: Path,
    baseline: Mapping[str, float] | Sequence[Mapping[str, float]] | None = None,
    *,
    dots_per_inch: int = DOTS_PER_INCH,
) -> None:
    """Draw accuracy (left) and expected calibration error (right) over the subspace, as in Figure 6.

    Single models P(alpha) are dashed, ensembles of P(alpha) and P(1 - alpha) solid, a standard network is a
    dotted horizontal line; several runs give their mean and a band of one sample standard deviation. A
    simplex's points stand side by side under their names, with a solid line for its endpoints' ensemble.

    Args:
        evaluation: what `subspace_serve.measure.evaluation.evaluate` returns: `{"points": [{"alpha": ..., "metrics":
            {"accuracy": ..., "ece": ..., ...}, "ensemble": {...}}, ...], "endpoints_ensemble": {"metrics":
            {...}}}`, the ensembles being optional; or a list of these, one a run, with equal alphas.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        baseline: the metrics of a standard network, or a list of these, one a run.
        dots_per_inch: of a `.png`; the picture is 9 by 3.6 inches.

    Raises:
        SubspaceServeError: another suffix, no points, or runs that were evaluated at different alphas.
    """
    check_picture(target)
    runs = as_runs(evaluation)
    baselines = [baseline] if isinstance(baseline, Mapping) else list(baseline or ())
    with picture(target, _SIZE_INCHES, dots_per_inch=dots_per_inch) as figure:
        panels = figure.subplots(1, len(_PANELS))
        for axes, (metric, title) in zip(panels, _PANELS.items(), strict=True):
            axes.set_title(title)
            draw_places(axes, runs, metric)
            if baselines:
                draw_level(axes, baselines, metric, ":", BASELINE, "Standard network")
        legend_below(figure, panels[0])


def draw_places(axes: Axes, runs: Sequence[Document], metric: str) -> None:
    """Draw one metric over the places of a subspace, the mean over `runs`, which have the same places."""
    draw = _draw_simplex if isinstance(runs[0]["points"][0]["alpha"], Sequence) else _draw_path
    draw(axes, runs, metric)


def draw_level(
    axes: Axes, runs: Sequence[Mapping[str, float]], metric: str, style: str, color: str, label: str
) -> None:
    """Draw one metric that belongs to no place: a horizontal line."""
    mean, deviation = mean_and_deviation([run[metric] for run in runs])
    axes.axhline(mean, linestyle=style, color=color, label=label)
    if len(runs) > 1:
        axes.axhspan(mean - deviation, mean + deviation, color=color, alpha=0.12, linewidth=0)


def _draw_path(axes: Axes, runs: Sequence[Document], metric: str) -> None:
    """One metric along the alphas of a line or a curve."""
    order = order_of(runs[0]["points"])
    alphas = [runs[0]["points"][index]["alpha"] for index in order]
    for kind, style, label in (
        ("metrics", "--o", r"Single model $P(\alpha)$"),
        ("ensemble", "-o", r"Ensemble of $P(\alpha)$ and $P(1-\alpha)$"),
    ):
        if not has_kind(runs, kind):
            continue
        means, deviations = series(runs, kind, metric, order)
        axes.plot(
            alphas,
            means,
            style,
            color=SUBSPACE,
            markerfacecolor=SUBSPACE if kind == "ensemble" else "white",
            label=label,
        )
        if len(runs) > 1:
            low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
            high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
            axes.fill_between(alphas, low, high, color=SUBSPACE, alpha=0.15, linewidth=0)
    axes.set_xlabel(r"$\alpha$")


def _draw_simplex(axes: Axes, runs: Sequence[Document], metric: str) -> None:
    """One metric at the points of a simplex, and that of its endpoints together.

    Dots, because the differences are small beside the values: bars would have to start away from zero.
    """
    places = range(len(runs[0]["points"]))
    means, deviations = series(runs, "metrics", metric, places)
    axes.errorbar(
        places,
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
    if all(run.get("endpoints_ensemble") for run in runs):
        ensembles = [run["endpoints_ensemble"]["metrics"] for run in runs]
        draw_level(axes, ensembles, metric, "-", SUBSPACE, "Ensemble of the endpoints")
    names = [place_name(point["alpha"]) for point in runs[0]["points"]]
    axes.set_xticks(list(places), names, rotation=30, horizontalalignment="right")
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(visible=False, axis="x")
