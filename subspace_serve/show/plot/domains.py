"""Several domains along a subspace: where each is best, and what is gained on one for what is lost on another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subspace_serve.measure.image_sets import DomainSet
from subspace_serve.show.plot.documents import check_same_points, place_name
from subspace_serve.show.plot.series import COLORS, MARKERS, Series, draw_curve, draw_dots
from subspace_serve.show.plot.style import COLOR_MAP, GREY, legend_below, picture, plain
from subspace_serve.space.place import is_end, is_midpoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE_INCHES = (9.6, 4.2)
_ONE_PANEL_INCHES = (4.8, 4.2)
_DOT = 45
"""Square points."""


def plot_domains(domains: Sequence[DomainSet], target: Path) -> None:
    """Draw accuracy over the subspace for each domain (left), and on the first against each other domain (right).

    The right panel is that of Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (figure 1): up and to the
    right is better on both, and alpha is the colour along the path. The domain has the marker that it has on the left;
    a simplex has no path, and its places have their names. One domain alone has the left panel only.

    Args:
        domains: of one evaluation, with equal places.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.

    Raises:
        SubspaceServeError: another suffix, no points, or domains that were evaluated at different alphas.
    """
    check_same_points(domains)
    several = len(domains) > 1
    size = _SIZE_INCHES if several else _ONE_PANEL_INCHES
    with picture(target, size) as figure:
        panels = figure.subplots(1, 2 if several else 1, squeeze=False)[0]
        _draw_along(panels[0], domains)
        if several:
            _draw_against(figure, panels[1], domains)
        handles, _ = panels[0].get_legend_handles_labels()
        legend_below(figure, handles, [plain(domain.name) for domain in domains])


def _on_simplex(domain: DomainSet) -> bool:
    return isinstance(domain.points[0].alpha, Sequence)


def _accuracies(domain: DomainSet) -> list[float]:
    """Return accuracy in percent at each place, by alpha."""
    return [100 * point.accuracy for point in domain.ordered]


def _draw_along(axes: Axes, domains: Sequence[DomainSet]) -> None:
    """Accuracy at each place, a curve or dots a domain."""
    places = [point.alpha for point in domains[0].ordered]
    simplex = _on_simplex(domains[0])
    for number, domain in enumerate(domains):
        positions = range(len(places)) if simplex else [float(alpha) for alpha in places]  # type: ignore[arg-type]
        # The legend has the names: matplotlib would leave out a curve whose own label begins with `_`.
        series = Series(f"domain {number}", [_accuracies(domain)], positions)
        draw = draw_dots if simplex else draw_curve
        draw(axes, series, COLORS[number % len(COLORS)], marker=MARKERS[number % len(MARKERS)])
    axes.set_title("Accuracy on each domain (%)")
    if simplex:
        axes.set_xticks(range(len(places)), list(map(place_name, places)), rotation=30, horizontalalignment="right")
    else:
        axes.set_xlabel(r"$\alpha$")


def _draw_against(figure: Figure, axes: Axes, domains: Sequence[DomainSet]) -> None:
    """Accuracy on the first domain against that on each other, a path a domain."""
    first, *others = domains
    across = _accuracies(first)
    dots = None
    for number, domain in enumerate(others, start=1):
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        up = _accuracies(domain)
        if _on_simplex(first):
            axes.scatter(across, up, color=color, marker=marker, s=_DOT, zorder=3)
        else:
            alphas = [float(point.alpha) for point in first.ordered]  # type: ignore[arg-type]
            axes.plot(across, up, "-", color=color, linewidth=1.2, alpha=0.6)
            dots = axes.scatter(
                across, up, c=alphas, cmap=COLOR_MAP, vmin=min(alphas), vmax=max(alphas), marker=marker, s=_DOT,
                edgecolors=color, linewidths=0.8, zorder=3,
            )  # fmt: skip
        for point, x, y in zip(first.ordered, across, up, strict=True):
            if is_end(point.alpha) or is_midpoint(point.alpha):
                axes.annotate(
                    place_name(point.alpha), (x, y), xytext=(5, 5), textcoords="offset points", fontsize=9, color=GREY
                )
    if dots is not None:
        figure.colorbar(dots, ax=axes, label=r"$\alpha$")
    axes.margins(0.1)  # so that names at the edge stay inside
    axes.set_title("One domain against another")
    axes.set_xlabel(f"Accuracy on {plain(first.name)} (%)")
    axes.set_ylabel(f"Accuracy on {plain(others[0].name) if len(others) == 1 else 'the other domains'} (%)")
