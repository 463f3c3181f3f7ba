"""Images that several models classify differently, with what each of them answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from subspace_serve.errors import SubspaceServeError
from subspace_serve.show.plot.style import BASELINE, DOTS_PER_INCH, SUBSPACE, picture

if TYPE_CHECKING:
    from subspace_serve.measure.changed import ChangedAnswers

_COLUMNS = 4
_LONGEST = 14
"""How many characters of a name fit below a picture."""


def plot_changed_answers(changed: ChangedAnswers, target: Path, *, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Draw each image with its true class above it, and below it each model's answer and its probability.

    Args:
        changed: the images that are classified differently.
        target: a `.png` or `.svg` file, replaced whole; the same input gives the same bytes.
        dots_per_inch: of a `.png`.

    Raises:
        SubspaceServeError: another suffix, or nothing to draw.
    """
    if not changed.shown:
        raise SubspaceServeError("There is nothing to draw: every image gets the same answer from all models.")
    columns = min(_COLUMNS, len(changed.shown))
    rows = math.ceil(len(changed.shown) / columns)
    height = 1.5 + 0.17 * len(changed.models)
    with picture(target, (2.25 * columns, height * rows), dots_per_inch=dots_per_inch) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, entry in zip(grid.flat, changed.shown, strict=False):
            pixels = entry.pixels
            # An image that is neither grey nor RGB is shown as the mean of its channels.
            shown = pixels if pixels.shape[-1] == 3 else pixels.mean(axis=-1)
            axes.imshow(shown, cmap="gray", vmin=0, vmax=255)
            axes.set_title(_short(entry.label), fontsize=9, parse_math=False)
            answers = zip(changed.models, entry.answers, strict=True)
            for line, (model, (name, probability)) in enumerate(answers):
                axes.annotate(
                    f"{_short(model)}: {_short(name)} {100 * probability:.0f} %",
                    (0.5, 0), (0, -9 - 11 * line), xycoords="axes fraction", textcoords="offset points",
                    ha="center", va="center", fontsize=7, parse_math=False,
                    color=SUBSPACE if name == entry.label else BASELINE,
                    weight="bold" if name == entry.label else "normal",
                )  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
