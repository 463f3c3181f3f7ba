"""How a figure is described: the runs that it needs, the claims that are tested on them, and its picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.show.plot.series import plot_series
from trainer.reproduce.measures import Measure
from trainer.reproduce.scales import Scale

Settings = dict[str, Any]
Measurement = dict[str, Any]
Document = dict[str, Any]
"""What the page says of a figure at a scale, as JSON values."""
Runs = Sequence[Measurement]
"""What was measured on one case, one entry per seed."""


@dataclass(frozen=True)
class Case:
    """What sets a run apart from the figure's other runs; as text it names a row or a curve.

    Attributes:
        name: of the method.
        value: of a swept setting.
        size: how many networks take part.
        noise: fraction of the labels that are replaced by random ones (`label_noise`).
        length: in multiples of the panel's epochs.
        shared: fraction of the epochs that are shared before members part (`shared`).
        variant: what else is different, in words.
        beta: strength of the regularisation (`beta`).
    """

    name: str = ""
    value: float | None = None
    size: int | None = None
    noise: float | None = None
    length: float | None = None
    shared: float | None = None
    variant: str = ""
    beta: float | None = None

    @property
    def settings(self) -> Settings:
        """Those of these facts that are training settings."""
        facts = {"label_noise": self.noise, "shared": self.shared, "beta": self.beta}
        return {name: fact for name, fact in facts.items() if fact is not None}

    def __str__(self) -> str:
        facts = [(self.value, ""), (self.size, ""), (self.noise, "at "), (self.length, "x "), (self.shared, "from ")]
        words = [self.name, *(f"{word}{fact:g}" for fact, word in facts if fact is not None)]
        parts = [" ".join(filter(None, words)), self.variant, "" if self.beta is None else f"beta = {self.beta:g}"]
        return ", ".join(filter(None, parts))


def middle(run: Measurement) -> Measurement:
    """Return the point in the middle of what was measured along a subspace."""
    points = run["points"]
    return points[-1] if isinstance(points[0]["alpha"], list) else points[len(points) // 2]  # type: ignore[no-any-return]


Results = Mapping[Case, Runs]
"""What was measured on each run of a figure."""


@dataclass(frozen=True)
class Wanted:
    """How a run of a figure is trained, and what is measured on it.

    Attributes:
        settings: training settings beyond those of the panel and of the case.
        measure: what is measured.
    """

    settings: Settings
    measure: Measure


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and what the runs found.

    Attributes:
        text: what the paper says, paraphrased.
        differences: one number per seed, positive where the claim holds.
        unit: of the numbers as they are shown.
        scale: factor by which they are multiplied to be shown (100 for percentage points).
        margin: how far below zero still counts as holding, in the unscaled unit: for claims that something is matched
            or approached.
        strict: whether a difference of zero fails; False where the claim is "at least as".
        of_paper: whether the paper says so; other claims are shown separately and not counted.
    """

    text: str
    differences: np.ndarray
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
        runs: the runs that it needs at a scale.
        claims: what is tested on one panel's results.
        picture: makes a panel's parts of the picture from its title and results.
        panels: which of a scale's panels it is made on; those that the scale lacks are left out.
        seeds: how many seeds at most; None for the scale's.
        note: a remark for the page.
        plot: draws the parts of all panels into a file.
    """

    name: str
    title: str
    runs: Callable[[Scale], dict[Case, Wanted]]
    claims: Callable[[Scale, Results], Iterable[Claim]]
    picture: Callable[[str, Results], Sequence[Any]]
    panels: tuple[str, ...] = ("cifar10",)
    seeds: int | None = None
    note: str = ""
    plot: Callable[[Sequence[Any], Path], None] = plot_series
