"""How the distances between a subspace's endpoints developed in training (figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from subspace_serve.errors import SubspaceServeError
from subspace_serve.measure.point_results import Document
from subspace_serve.show.plot.series import Series, draw_curve
from subspace_serve.show.plot.style import DOTS_PER_INCH, GREY, SUBSPACE, picture

_PANELS = {
    "endpoint_l2": r"$L_2$ distance of the endpoints",
    "endpoint_cosine_squared": r"$\cos^2$ of the endpoints",
    "accuracy": "Training accuracy (%)",
}


def plot_distances(
    records: Sequence[Document] | Sequence[Sequence[Document]], target: Path, *, dots_per_inch: int = DOTS_PER_INCH
) -> None:
    """Draw the endpoints' L2 distance and squared cosine similarity after each epoch, and the training accuracy.

    Args:
        records: the lines of a run's `metrics.jsonl`: `epoch`, `endpoint_l2`, `endpoint_cosine_squared`, `accuracy`
            (of networks drawn at random from the subspace); or a list of them, one per run. Of several runs the epochs
            that all have are drawn, with a band of one sample standard deviation.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        dots_per_inch: of a `.png`.

    Raises:
        SubspaceServeError: another suffix, or no epoch with two endpoints.
    """
    runs: list[Sequence[Document]] = [records] if records and isinstance(records[0], Mapping) else list(records)  # type: ignore[arg-type, list-item]
    epochs = list(zip(*runs, strict=False))
    if not epochs or any(record.get("endpoint_l2") is None for epoch in epochs for record in epoch):
        raise SubspaceServeError(
            "There are no distances to draw: the records of the training have no epoch, or the network has one "
            "endpoint only."
        )
    numbers = [epoch[0]["epoch"] for epoch in epochs]
    with picture(target, (10.0, 3.2), dots_per_inch=dots_per_inch) as figure:
        for axes, (key, title) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
            scale = 100 if key == "accuracy" else 1
            series = Series(title, [[scale * epoch[run][key] for epoch in epochs] for run in range(len(runs))], numbers)
            draw_curve(axes, series, GREY if key == "accuracy" else SUBSPACE, marker="o")
            axes.set_title(title, fontsize=11)
            axes.set_xlabel("Epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            highest = float(np.add(*series.means_and_deviations()).max())
            axes.set_ylim(0, 1.08 * highest or 1)
