"""Test error on the plane through three sets of weights (figure 2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from subspace_serve.measure.point_results import Document
from subspace_serve.show.plot.style import COLOR_MAP, DOTS_PER_INCH, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEVELS = 12
_SMALLEST_ERROR = 1e-3


def plot_plane(plane: Document, target: Path, *, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Draw contours of test error on a plane in weight space, as in Figure 2.

    Contours are evenly spaced in the logarithm of the error, because the interesting differences are between small
    errors. Lengths are to scale in both directions; a cross marks each network that was measured on the grid.

    Args:
        plane: what `subspace_serve.measure.plane.plane_errors` returns.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        dots_per_inch: of a `.png`.

    Raises:
        SubspaceServeError: another suffix.
    """
    x, y = plane["x"], plane["y"]
    aspect = (y[-1] - y[0]) / (x[-1] - x[0])
    size = (6.4, min(max(4.8 * aspect, 2.0), 8.0) + 0.6)
    with picture(target, size, dots_per_inch=dots_per_inch) as figure:
        _draw(figure, figure.subplots(), plane)


def plot_planes(planes: Mapping[str, Document], target: Path) -> None:
    """Draw several planes side by side, each under its name; otherwise as `plot_plane`."""
    with picture(target, (5.2 * len(planes), 4.8)) as figure:
        for axes, (name, plane) in zip(
            figure.subplots(1, len(planes), squeeze=False).flat, planes.items(), strict=True
        ):
            _draw(figure, axes, plane)
            axes.set_title(name)


def _draw(figure: Figure, axes: Axes, plane: Document) -> None:
    import numpy as np
    from matplotlib.patheffects import withStroke

    errors = 100 * np.maximum(np.asarray(plane["error"], dtype=np.float64), _SMALLEST_ERROR)
    x, y = np.asarray(plane["x"]), np.asarray(plane["y"])
    levels = np.geomspace(errors.min(), max(errors.max(), errors.min() * 1.01), _LEVELS)
    outline = withStroke(linewidth=3.5, foreground="black")
    filled = axes.contourf(x, y, errors, levels, cmap=f"{COLOR_MAP}_r", norm="log")
    axes.contour(x, y, errors, levels, colors="black", linewidths=0.4, alpha=0.5)
    axes.plot(*np.meshgrid(x, y), "+", color="black", markersize=3, markeredgewidth=0.5, alpha=0.5)
    axes.grid(visible=False)
    path = np.asarray(plane.get("path") or np.empty((0, 2)))
    if len(path):
        axes.plot(path[:, 0], path[:, 1], "-", color="white", path_effects=[outline])
    for vector in plane["vectors"]:
        leftwards = vector["x"] > (x[0] + x[-1]) / 2  # so that the name stays inside
        axes.plot(vector["x"], vector["y"], "o", color="white", markeredgecolor="black", markersize=8)
        axes.annotate(
            vector["name"], (vector["x"], vector["y"]), xytext=(-8 if leftwards else 8, 8),
            textcoords="offset points", horizontalalignment="right" if leftwards else "left", color="white",
            path_effects=[outline],
        )  # fmt: skip
    axes.set_aspect("equal")
    axes.set(
        xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), xlabel="Distance in weight space", ylabel="Distance in weight space"
    )
    bar = figure.colorbar(filled, ax=axes, label="Error (%)", ticks=levels[:: max(1, len(levels) // 6)])
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    bar.minorticks_off()
