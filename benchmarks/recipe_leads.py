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


COLUMNS = (
    Column("midpoint: points", False, "midpoint", "accuracy"),
    Column("NLL", False, "midpoint", "nll", 1.0),
    Column("ECE, points", False, "midpoint", "ece"),
    Column("ends: points", False, "ends", "accuracy"),
    Column("NLL", False, "ends", "nll", 1.0),
    Column("noisy: midpoint, points", True, "midpoint", "accuracy"),
    Column("ends, points", True, "ends", "accuracy"),
    Column("**midpoint, all**", None, "midpoint", "accuracy"),
)
CRITERION = COLUMNS[-1]
"""What recipes are chosen by."""


def leads(panels: Mapping[str, Rows], candidate: str, column: Column) -> list[float]:
    """Return a candidate's difference to the standard network, the mean over a column's panels.

    There is one for each seed that has all panels, so that all columns are of the same seeds; none if the candidate
    lacks the column's model.
    """
    seeds = []
    for index in range(max((len(rows[candidate]) for rows in panels.values()), default=0)):
        pairs = {name: (rows[candidate][index], rows[STANDARD][index]) for name, rows in panels.items()}
        if all(ours and theirs and column.model in ours for ours, theirs in pairs.values()):
            values = [
                ours[column.model][column.metric] - theirs["midpoint"][column.metric]  # type: ignore[index]
                for name, (ours, theirs) in pairs.items()
                if column.noisy in (None, name.endswith("noisy"))
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
