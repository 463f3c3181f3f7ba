"""What a report is made of: sections with pictures, tables and text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subspace_serve.measure.changed import ChangedAnswers
from subspace_serve.measure.point_results import Document, Metrics
from subspace_serve.measure.results import Evaluation

DOTS_PER_INCH = 160
"""The resolution of the page's pictures: sharp on high-resolution screens and in print."""

LONG = 16
"""A table with more rows is collapsed."""


@dataclass(frozen=True)
class Documents:
    """Everything that a report shows, most of it JSON values; sections without their part say that it is missing.

    Attributes:
        run: `name`, `checkpoint`, `sha256`, `geometry` {name, endpoints}, `architecture`, `parameters`, `provenance`
            and `versions` (of the programs that made the report).
        evaluation: what was measured.
        selections: by name, as in `selections.json`.
        training: the lines of `metrics.jsonl`.
        plane: what `subspace_serve.measure.plane.plane_errors` returns.
        changed: the images that are classified differently.
    """

    run: Document
    evaluation: Evaluation
    selections: Mapping[str, Document] = field(default_factory=dict)
    training: Sequence[Document] = ()
    plane: Document | None = None
    changed: ChangedAnswers | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        changed = None if self.changed is None else self.changed.to_json()
        return vars(self) | {"evaluation": self.evaluation.to_json(), "changed": changed}


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        file: its file's name, a `.png`.
        alternative: its alternative text, for readers who cannot see it.
        draw: writes it to a path.
    """

    file: str
    alternative: str
    draw: Callable[[Path], None]


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its heading.

    Attributes:
        caption: what it shows.
        header: the columns' headings.
        rows: cells, as they are shown.
        folded: whether it is collapsed until the reader opens it.
    """

    caption: str
    header: list[str]
    rows: list[list[str]]
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """One question and its answer.

    Attributes:
        key: the section's anchor in the page.
        title: the question.
        introduction: what was measured.
        reading: how to read the pictures, a sentence or two each.
        figures, tables: the answer.
        missing: where there is no answer, why, and how to get it.
    """

    key: str
    title: str
    introduction: str
    reading: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    missing: str | None = None


def percent(fraction: float) -> str:
    """Return a fraction in percent with two decimals, without the percent sign."""
    return f"{100 * fraction:.2f}"


def metric_cells(metrics: Metrics) -> list[str]:
    """Return accuracy, NLL, ECE and Brier score as a table shows them."""
    return [percent(metrics["accuracy"]), f"{metrics['nll']:.4f}", percent(metrics["ece"]), f"{metrics['brier']:.4f}"]


def points(difference: float) -> str:
    """Return a difference of fractions in percentage points, with its sign."""
    return f"{100 * difference:+.2f}".replace("-", "−")


def in_one_line(value: Any) -> str:
    """Return a JSON value in one line: a string as it is, a mapping as its names and values."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return ", ".join(f"{key} {in_one_line(part)}" for key, part in value.items() if part not in (None, {}, []))
    return json.dumps(value)
