"""What a figure is: the runs that it needs, and the claims that are tested on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.reproduce.measures import Measure
from trainer.reproduce.scales import Scale

Settings = dict[str, Any]
Measurement = dict[str, Any]
Get = Callable[[Measurement], float]
"""One number of a measurement."""
Results = Mapping[str, Sequence[Measurement]]
"""By a run's label, what was measured on it, one entry a seed."""


@dataclass(frozen=True)
class Wanted:
    """A run of a figure, and what is measured on it.

    Attributes:
        settings: training settings beyond the panel's own.
        measure: what is measured.
        length: of the run, in multiples of the panel's epochs.
    """

    settings: Settings
    measure: Measure
    length: float = 1


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper that can be tested.

    Attributes:
        text: what the paper says, in our words.
        difference: from the results, one number a seed that is positive where the claim holds.
        unit: of the numbers, for people.
        scale: by which they are multiplied for people (100 for percentage points).
        margin: how far below zero still counts as holding, in the numbers' own unit: for claims that something is
            matched or approached.
        strict: whether a difference of zero fails; not where the claim is "at least as".
        of_paper: whether the paper says so; other claims are shown apart and not counted.
    """

    text: str
    difference: Callable[[Results], Sequence[float]]
    unit: str = "points"
    scale: float = 100.0
    margin: float = 0.0
    strict: bool = True
    of_paper: bool = True


@dataclass(frozen=True)
class Figure:
    """One figure of the paper.

    Attributes:
        name: its number, as text.
        title: what it shows.
        runs: the runs that it needs at a scale, by label.
        draw: draws all panels' results into a picture: (results by panel, the file).
        claims: what is tested, on each panel.
        panels: which of a scale's panels it is made on; those that the scale lacks are left out.
        seeds: how many seeds at most; None for the scale's.
        note: what is to be known about it here.
    """

    name: str
    title: str
    runs: Callable[[Scale], dict[str, Wanted]]
    draw: Callable[[Mapping[str, Results], Path], None]
    claims: Callable[[Scale], Sequence[Claim]]
    panels: tuple[str, ...] = ("cifar10",)
    seeds: int | None = None
    note: str = ""
