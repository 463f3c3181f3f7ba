"""How far a recipe is ahead of the standard network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import NamedTuple

from benchmarks.recipe_candidates import STANDARD
from benchmarks.recipe_job import Row

Rows = Mapping[str, Sequence[Row | None]]
"""What is measured by candidate, one entry a seed; None where it is not."""


class Column(NamedTuple):
    """A difference to the standard network, in a table.

    Attributes:
        title: of the column.
        noisy: whether of the panels with noisy labels; None for all.
        model: `midpoint`, or the `ends` together.
        metric: what differs.
        factor: by which it is multiplied to be shown.
    """

    title: str
    noisy: bool | None
    model: str
    metric: str
    factor: float = 100.0


def leads(panels: Mapping[str, Rows], candidate: str, column: Column) -> list[float]:
    """Return a candidate's difference to the standard network, the mean over panels, for each seed that has all."""
    chosen = [rows for name, rows in panels.items() if column.noisy in (None, name.endswith("noisy"))]
    seeds = []
    for index in range(max((len(rows[candidate]) for rows in chosen), default=0)):
        pairs = [(rows[candidate][index], rows[STANDARD][index]) for rows in chosen]
        if all(ours and theirs and column.model in ours for ours, theirs in pairs):
            values = [
                ours[column.model][column.metric] - theirs["midpoint"][column.metric]  # type: ignore[index]
                for ours, theirs in pairs
            ]
            seeds.append(column.factor * mean(values))
    return seeds


def cell(values: Sequence[float], column: Column) -> str:
    """Return a mean, and with several seeds their standard deviation; nothing of nothing."""
    if not values:
        return ""
    digits = 3 if column.factor == 1 else 2
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):+.{digits}f}{deviation}"
