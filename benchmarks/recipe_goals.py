"""What the default recipe is to reach, on each data set and at each length, and whether it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.recipe_candidates import SETS
from benchmarks.recipe_leads import COLUMNS, Column, Rows, cell, leads
from benchmarks.tables import table
from trainer.reproduce.verdict import HOLDS, verdict

REACHED, LEVEL, MISSED = "✓", "~", "✗"


class Goal(NamedTuple):
    """A lead over the standard network.

    Attributes:
        column: what is compared.
        least: how large the lead is to be, in the column's unit.
        smaller: whether the smaller of the two is the better.
    """

    column: Column
    least: float = 0.0
    smaller: bool = False

    def mark(self, values: list[float]) -> str:
        """Return whether it is reached beyond chance, missed beyond chance, or neither."""
        ahead = [(-value if self.smaller else value) - self.least for value in values]
        if verdict(ahead).word == HOLDS:
            return REACHED
        return MISSED if verdict([-value for value in ahead]).word == HOLDS else LEVEL


NOISY_LEAD = 3.0
"""How far the midpoint is to be ahead with noisy labels, in points."""
GOALS = tuple(
    Goal(column, NOISY_LEAD if column.noisy else 0.0, smaller=column.metric != "accuracy") for column in COLUMNS[:6]
)


class Reached(NamedTuple):
    """How a candidate does on a data set at a length: its leads, one entry a seed, and their marks, goal by goal."""

    data: str
    epochs: int
    leads: list[list[float]]
    marks: list[str]


def reached(found: Mapping[int, Mapping[str, Rows]], candidate: str) -> Iterator[Reached]:
    """Yield how a candidate does, set by set and length by length; a goal without a measurement has no mark."""
    for name in SETS:
        for epochs, panels in found.items():
            chosen = {panel: panels[panel] for panel in (name, f"{name}, noisy") if panel in panels}
            values = [leads(chosen, candidate, goal.column) for goal in GOALS]
            marks = [goal.mark(lead) if lead else "" for goal, lead in zip(GOALS, values, strict=True)]
            yield Reached(name, epochs, values, marks)


def goals(found: Mapping[int, Mapping[str, Rows]], candidate: str) -> str:
    """Return the table of a candidate's leads with their marks."""
    rows = []
    for data, epochs, values, marks in reached(found, candidate):
        cells = [f"{cell(lead, goal.column)} {mark}" for goal, lead, mark in zip(GOALS, values, marks, strict=True)]
        rows.append([data, str(epochs), *map(str.strip, cells)])
    return table(["data", "epochs", *(goal.column.title for goal in GOALS)], rows)


def goal_counts(found: Mapping[int, Mapping[str, Rows]], candidates: Sequence[str]) -> str:
    """Return the table of how many goals each candidate reaches and misses."""
    rows = []
    for candidate in candidates:
        marks = Counter(mark for each in reached(found, candidate) for mark in each.marks)
        rows.append([candidate, *(str(marks[mark]) for mark in (REACHED, LEVEL, MISSED))])
    return table(["candidate", "reached (✓)", "neither beyond chance (~)", "missed (✗)"], rows)
