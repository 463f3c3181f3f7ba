"""The tables and the picture of docs/decisions.md, from the documents of `benchmarks.coverage`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.tables import table
from subspace_serve.show.plot.style import BASELINE, GREY, SUBSPACE, legend_below, picture

BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
HOW = ("before", "adapted", "adapted, labels")

Documents = Sequence[dict[str, Any]]
"""One per run."""


def page(documents: Documents) -> str:
    """Return the tables as Markdown."""
    return "\n".join([_by_coverage(documents), _by_method(documents), _by_abstaining(documents), _shifted(documents)])


def draw_picture(documents: Documents, file: Path) -> None:
    """Draw the risk-coverage curves of the midpoint and of the ends' ensemble, clean and under contrast."""
    panels = (
        ("clean", lambda found: found["curves"]["clean"]),
        ("contrast, training statistics", lambda found: found["curves"]["contrast"]["before"]),
        ("contrast, after adapt", lambda found: found["curves"]["contrast"]["adapted"]),
    )
    with picture(file, (10, 3.8)) as figure:
        all_axes = figure.subplots(1, 3)
        for axes, (title, of) in zip(all_axes, panels, strict=True):
            for model, color, look in (
                ("midpoint", SUBSPACE, "-"),
                ("ensemble of both ends", BASELINE, "--"),
                ("end", GREY, ":"),
            ):
                risks = 100 * np.mean([of(found)[model]["risks"] for found in documents], axis=0)
                axes.plot(np.linspace(1, 100, len(risks)), risks, look, color=color, label=model)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("images answered, surest first (%)")
        all_axes[0].set_ylabel("wrong among these (%)")
        legend_below(figure, *all_axes[0].get_legend_handles_labels())


def _by_coverage(documents: Documents) -> str:
    """Return how many sets hold, by model and coverage."""
    rows = []
    for model in documents[0]["coverage"]:
        for asked in documents[0]["coverage"][model]:
            cells = [found["coverage"][model][asked] for found in documents]
            low, high = cells[0]["band"]
            held = np.array(_all(cells, "held"))
            places = ((held < low).sum(), ((low <= held) & (held <= high)).sum(), (held > high).sum())
            rows.append(
                [
                    model,
                    f"{100 * float(asked):g} %",
                    _percent(_all(cells, "held")),
                    f"{100 * low:.1f} to {100 * high:.1f} %",
                    " / ".join(map(str, places)),
                    f"{mean(cell['size'] for cell in cells):.2f}",
                ]
            )
    return table(
        ["model", "asked", "sets that hold %", "band", "splits below / in / above it", "labels in a set"], rows
    )


def _by_method(documents: Documents) -> str:
    """Return the midpoint's sets by score."""
    rows = []
    for method, found in documents[0]["methods"].items():
        row = [f"`{method}`"]
        for asked in found:
            cells = [document["methods"][method][asked] for document in documents]
            row += [_percent(_all(cells, "held")), f"{mean(cell['size'] for cell in cells):.2f}"]
        rows.append(row)
    return table(["midpoint", "90 %: hold %", "labels", "99 %: hold %", "labels"], rows)


def _by_abstaining(documents: Documents) -> str:
    """Return what abstaining is worth on clean images, by model."""
    rows = [
        [
            model,
            f"{100 * mean(found['error'][model] for found in documents):.1f} %",
            f"{1000 * mean(found['curves']['clean'][model]['aurc'] for found in documents):.1f}",
            _percent(_all(cells, "answered")),
            _percent(_all(cells, "wrong"), 2),
            f"{sum(share > 0.05 for share in _all(cells, 'wrong'))} of {len(_all(cells, 'wrong'))}",
        ]
        for model in documents[0]["abstaining"]
        if (cells := [found["abstaining"][model] for found in documents])
    ]
    return table(["clean images", "error", "AURC / 1000", "answered %", "wrong of these %", "splits over 5 %"], rows)


def _shifted(documents: Documents) -> str:
    """Return errors, sets and abstaining under each corruption, before and after `adapt`."""
    rows = []
    for model in ("midpoint", "ensemble of both ends"):
        for corruption in documents[0]["corruptions"]:

            def over(
                value: Callable[[dict[str, Any]], float], corruption: str = corruption, model: str = model
            ) -> list[str]:
                return [
                    f"{mean(value(found['corruptions'][corruption][model][how]) for found in documents):.1f}"
                    for how in HOW
                ]

            error = over(lambda cell: 100 * cell["error"])[:2]
            held = over(lambda cell: 100 * mean(cell["sets"]["held"]))
            size = over(lambda cell: cell["sets"]["size"])
            wrong = over(lambda cell: 100 * mean(cell["abstaining"]["wrong"] or [0.0]))
            answered = over(lambda cell: 100 * mean(cell["abstaining"]["answered"]))
            rows.append([model, corruption.replace("_", " "), *map(" → ".join, (error, held, size, answered, wrong))])
    header = ["", "severity 3", "error %", "sets that hold %", "labels in a set", "answered %", "wrong of these %"]
    return table(header, rows)


def _all(cells: Sequence[dict[str, Any]], key: str) -> list[float]:
    return [value for cell in cells for value in cell[key]]


def _percent(values: Sequence[float], digits: int = 1) -> str:
    """Return a mean share, and the least and greatest, in percent."""
    if not values:
        return "–"
    text = (f"{100 * value:.{digits}f}" for value in (mean(values), min(values), max(values)))
    return "{} ({} to {})".format(*text)
