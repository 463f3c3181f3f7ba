"""Pictures of an evaluation: accuracy and calibration along a line or curve, or at a simplex's points."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from subspace_serve.errors import SubspaceServeError
from subspace_serve.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]

# Okabe and Ito's colours, which the colour-blind tell apart; the line styles tell the same in grey.
_SUBSPACE, _BASELINE = "#0072B2", "#D55E00"
_PANELS = {"accuracy": "Accuracy (%)", "ece": "Expected calibration error (%)"}
_SIZE_INCHES, _DOTS_PER_INCH = (9.0, 3.6), 100
_STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11,
    "grid.alpha": 0.3,
    "lines.linewidth": 2,
    "lines.markersize": 5,
    "svg.hashsalt": "subspace-serve",  # the same picture gives the same bytes
}
_METADATA: dict[str, dict[str, str | None]] = {".png": {"Software": None}, ".svg": {"Date": None}}


class Series(NamedTuple):
    """One metric at several places, in percent: means and sample standard deviations over runs."""

    means: list[float]
    deviations: list[float]


def plot_subspace(
    evaluation: Document | Sequence[Document],
    target: Path,
    baseline: Mapping[str, float] | Sequence[Mapping[str, float]] | None = None,
) -> None:
    """Draw accuracy (left) and expected calibration error (right) over the subspace, as in Figure 6.

    Single models P(alpha) are dashed, ensembles of P(alpha) and P(1 - alpha) solid, a standard network is a
    dotted horizontal line; several runs give their mean and a band of one sample standard deviation. A
    simplex's points stand side by side under their names, with a solid line for its endpoints' ensemble.

    Args:
        evaluation: what `subspace_serve.evaluate.evaluate` returns: `{"points": [{"alpha": ..., "metrics":
            {"accuracy": ..., "ece": ..., ...}, "ensemble": {...}}, ...], "endpoints_ensemble": {"metrics":
            {...}}}`, the ensembles being optional; or a list of these, one a run, with equal alphas.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        baseline: the metrics of a standard network, or a list of these, one a run.

    Raises:
        SubspaceServeError: another suffix, no points, or runs that were evaluated at different alphas.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    target = Path(target)
    if target.suffix not in _METADATA:
        raise SubspaceServeError(f"A picture's name must end in .png or .svg; found {target.name!r}.")
    runs = [evaluation] if isinstance(evaluation, Mapping) else list(evaluation)
    baselines = [baseline] if isinstance(baseline, Mapping) else list(baseline or ())
    _check_same_points(runs)
    draw = _draw_simplex if isinstance(runs[0]["points"][0]["alpha"], Sequence) else _draw_path

    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        panels = figure.subplots(1, len(_PANELS))
        for axes, (metric, title) in zip(panels, _PANELS.items(), strict=True):
            axes.set_title(title)
            draw(axes, runs, metric)
            if baselines:
                _draw_level(axes, baselines, metric, ":", _BASELINE, "Standard network")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        with atomic_file(target) as temporary:
            figure.savefig(temporary, format=target.suffix[1:], dpi=_DOTS_PER_INCH, metadata=_METADATA[target.suffix])


def _draw_path(axes: Axes, runs: Sequence[Document], metric: str) -> None:
    """One metric along the alphas of a line or a curve."""
    given = [point["alpha"] for point in runs[0]["points"]]
    order = sorted(range(len(given)), key=given.__getitem__)
    alphas = [given[index] for index in order]
    for kind, style, label in (
        ("metrics", "--o", r"Single model $P(\alpha)$"),
        ("ensemble", "-o", r"Ensemble of $P(\alpha)$ and $P(1-\alpha)$"),
    ):
        if not _has(runs, kind):
            continue
        means, deviations = _series(runs, kind, metric, order)
        axes.plot(
            alphas,
            means,
            style,
            color=_SUBSPACE,
            markerfacecolor=_SUBSPACE if kind == "ensemble" else "white",
            label=label,
        )
        if len(runs) > 1:
            low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
            high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
            axes.fill_between(alphas, low, high, color=_SUBSPACE, alpha=0.15, linewidth=0)
    axes.set_xlabel(r"$\alpha$")


def _draw_simplex(axes: Axes, runs: Sequence[Document], metric: str) -> None:
    """One metric at the points of a simplex, and that of its endpoints together.

    Dots, because the differences are small beside the values: bars would have to start away from zero.
    """
    places = range(len(runs[0]["points"]))
    means, deviations = _series(runs, "metrics", metric, places)
    axes.errorbar(
        places,
        means,
        yerr=deviations if len(runs) > 1 else None,
        fmt="o",
        markersize=8,
        capsize=4,
        color=_SUBSPACE,
        markerfacecolor="white",
        markeredgewidth=2,
        label=r"Single model $P(\alpha)$",
    )
    if all(run.get("endpoints_ensemble") for run in runs):
        ensembles = [run["endpoints_ensemble"]["metrics"] for run in runs]
        _draw_level(axes, ensembles, metric, "-", _SUBSPACE, "Ensemble of the endpoints")
    names = [_place_name(point["alpha"]) for point in runs[0]["points"]]
    axes.set_xticks(list(places), names, rotation=30, horizontalalignment="right")
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(visible=False, axis="x")


def _draw_level(
    axes: Axes, runs: Sequence[Mapping[str, float]], metric: str, style: str, color: str, label: str
) -> None:
    """One metric that belongs to no place: a horizontal line."""
    mean, deviation = _mean_and_deviation([run[metric] for run in runs])
    axes.axhline(mean, linestyle=style, color=color, label=label)
    if len(runs) > 1:
        axes.axhspan(mean - deviation, mean + deviation, color=color, alpha=0.12, linewidth=0)


def _series(runs: Sequence[Document], kind: str, metric: str, order: Sequence[int]) -> Series:
    pairs = [_mean_and_deviation([run["points"][index][kind][metric] for run in runs]) for index in order]
    return Series([mean for mean, _ in pairs], [deviation for _, deviation in pairs])


def _mean_and_deviation(fractions: Sequence[float]) -> tuple[float, float]:
    """In percent; the deviation is the sample's (n - 1), and 0 for a single run."""
    deviation = statistics.stdev(fractions) if len(fractions) > 1 else 0.0
    return 100 * statistics.fmean(fractions), 100 * deviation


def _has(runs: Sequence[Document], kind: str) -> bool:
    return all(point.get(kind) for run in runs for point in run["points"])


def _place_name(alpha: Sequence[float]) -> str:
    """The name of a simplex's vertex or midpoint, or else its coordinates."""
    if max(alpha) == 1:
        return f"endpoint-{list(alpha).index(1)}"
    if max(alpha) - min(alpha) < 1e-9:
        return "midpoint"
    return ", ".join(f"{part:.2g}" for part in alpha)


def _as_in_a_file(alpha: float | Sequence[float]) -> float | list[float]:
    return list(alpha) if isinstance(alpha, Sequence) else alpha


def _check_same_points(runs: Sequence[Document]) -> None:
    if not runs or not all(run["points"] for run in runs):
        raise SubspaceServeError("There is nothing to draw: the evaluation has no points.")
    alphas = [[_as_in_a_file(point["alpha"]) for point in run["points"]] for run in runs]
    for number, found in enumerate(alphas):
        if found != alphas[0]:
            raise SubspaceServeError(
                f"Runs drawn together must be evaluated at the same alphas; the first has {alphas[0]}, "
                f"number {number + 1} has {found}."
            )
