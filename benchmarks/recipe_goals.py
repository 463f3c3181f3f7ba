"""What the default recipe is to reach, on each data set and at each length, and whether it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.recipe_candidates import SETS
from benchmarks.recipe_leads import Column, Rows, cell, leads
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


GOALS = (
    Goal(Column("midpoint: points", False, "midpoint", "accuracy")),
    Goal(Column("NLL", False, "midpoint", "nll", 1.0), smaller=True),
    Goal(Column("ECE, points", False, "midpoint", "ece"), smaller=True),
    Goal(Column("ends: points", False, "ends", "accuracy")),
    Goal(Column("NLL", False, "ends", "nll", 1.0), smaller=True),
    Goal(Column("noisy: midpoint, points", True, "midpoint", "accuracy"), least=3.0),
)


def goals(found: Mapping[int, Mapping[str, Rows]], candidate: str) -> str:
    """Return a table of a candidate's leads, set by set and length by length, and how many goals are reached."""
    rows, marks = [], Counter[str]()
    for name in SETS:
        for epochs, panels in found.items():
            chosen = {panel: panels[panel] for panel in (name, f"{name}, noisy") if panel in panels}
            values = [leads(chosen, candidate, goal.column) for goal in GOALS]
            reached = [goal.mark(lead) if lead else "" for goal, lead in zip(GOALS, values, strict=True)]
            marks.update(filter(None, reached))
            cells = (
                f"{cell(lead, goal.column)} {mark}".strip()
                for goal, lead, mark in zip(GOALS, values, reached, strict=True)
            )
            rows.append([name, str(epochs), *cells])
    counted = f"{marks[REACHED]} reached (✓), {marks[LEVEL]} neither reached nor missed beyond chance (~), "
    return table(["data", "epochs", *(goal.column.title for goal in GOALS)], rows) + (
        f"\n{counted}{marks[MISSED]} missed (✗).\n"
    )
