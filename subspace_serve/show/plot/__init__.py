"""Pictures of evaluations, training and selections: deterministic `.png` and `.svg` files.

matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

from subspace_serve.show.plot.along import plot_subspace
from subspace_serve.show.plot.changed import plot_changed_answers
from subspace_serve.show.plot.corrupted import plot_corruptions, plot_heatmap, plot_relative_change
from subspace_serve.show.plot.domains import plot_domains
from subspace_serve.show.plot.plane import plot_plane
from subspace_serve.show.plot.reliability import plot_reliability
from subspace_serve.show.plot.selections import plot_selections
from subspace_serve.show.plot.style import check_picture
from subspace_serve.show.plot.training import plot_distances

__all__ = [
    "check_picture",
    "plot_changed_answers",
    "plot_corruptions",
    "plot_distances",
    "plot_domains",
    "plot_heatmap",
    "plot_plane",
    "plot_relative_change",
    "plot_reliability",
    "plot_selections",
    "plot_subspace",
]
