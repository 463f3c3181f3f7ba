"""One training of the search for a recipe, and the file in which all that is measured is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.in_memory import InMemory
from benchmarks.recipe_candidates import CANDIDATES
from benchmarks.tricks import Tricks, TrickStepper
from subspace_serve.files import held, write_text
from trainer.config import TrainingConfig
from trainer.reproduce.cache import data_of, identity_of

CALIBRATION = 2048
DIGITS = 5
"""Decimal places that are kept."""
WAIT_SECONDS = 0.1
"""How long to wait for another process that writes."""

Row = dict[str, Any]
"""The metrics of the `midpoint` and, of a line, of the `ends` together, and how far the ends are apart."""


@dataclass(frozen=True)
class Job:
    """One training, and where its figures go.

    Attributes:
        panel: data set, and whether its labels are noisy.
        candidate: its name.
        config: its settings.
        tricks: what is added to them.
        part: the images that it is judged on: `validation`, or `test` to confirm.
    """

    panel: str
    candidate: str
    config: TrainingConfig
    tricks: Tricks
    part: str

    @staticmethod
    def of(panel: str, candidate: str, base: dict[str, Any], epochs: int, seed: int, part: str) -> Job:
        """Return the training of a candidate on a panel's data."""
        chosen = CANDIDATES[candidate]
        return Job(panel, candidate, chosen.config(base, epochs, seed), chosen.tricks, part)

    @property
    def key(self) -> dict[str, Any]:
        """What the figures depend on besides the settings."""
        return {
            "measure": "recipe search",
            "tricks": dataclasses.asdict(self.tricks),
            "part": self.part,
            "calibration": CALIBRATION,
        }

    @property
    def identity(self) -> str:
        """A hash of all that the figures depend on, wherever the data lie."""
        settings = identity_of(self.config) | {"data": self.panel}
        return hashlib.sha256(json.dumps([settings, self.key], sort_keys=True).encode()).hexdigest()[:16]

    def measure(self) -> Row:
        """Train, and return how good the midpoint and the ends together are."""
        data = data_of(self.config)
        steps = self.config.epochs * (len(data.train) // self.config.batch_size)
        adapted = partial(TrickStepper, tricks=self.tricks, steps=steps)
        run = InMemory.start(self.config, data, adapted)
        endpoints, after = run.stepper.endpoints, list[Tensor]()
        for _ in run.losses():
            after = [*after, endpoints.values.clone()][-max(1, self.tricks.averaged) :]
        endpoints.values.copy_(torch.stack(after).mean(0))
        l2, cosine_squared = endpoints.distances()
        found: Row = run.metrics(getattr(data, self.part), CALIBRATION)
        return found | ({"l2": l2, "cosine_squared": cosine_squared} if len(endpoints.values) > 1 else {})


@dataclass
class Kept:
    """What is measured, a line of JSON for each training."""

    file: Path
    lines: dict[str, Row] = field(default_factory=dict)

    @staticmethod
    def read(file: Path) -> Kept:
        """Read what an earlier search has kept; nothing if there is no file."""
        return Kept(file, _read(file))

    def __contains__(self, job: Job) -> bool:
        return job.identity in self.lines

    def get(self, job: Job) -> Row | None:
        """Return what a training gave; None if it is not there."""
        line = self.lines.get(job.identity)
        return None if line is None else line["found"]

    def add(self, job: Job, found: Row) -> None:
        """Keep what a training gave."""
        about = {"panel": job.panel, "epochs": job.config.epochs, "candidate": job.candidate, "seed": job.config.seed}
        self.lines.setdefault(
            job.identity, {"identity": job.identity, **about, "part": job.part, "found": _rounded(found)}
        )

    def count(self, wanted: Sequence[Job]) -> tuple[int, int]:
        """Return how many different trainings are measured, and of how many; candidates may share some."""
        identities = {job.identity for job in wanted}
        return len(identities & self.lines.keys()), len(identities)

    def write(self) -> None:
        """Write all of it, in the order of its trainings, beside what other processes have written meanwhile."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with held(self.file.parent) as ours:
                if ours:
                    self.lines = _read(self.file) | self.lines
                    keys = ("epochs", "panel", "candidate", "seed", "identity")
                    order = sorted(self.lines.values(), key=lambda line: [line[name] for name in keys])
                    write_text(self.file, "".join(json.dumps(line) + "\n" for line in order))
                    return
            time.sleep(WAIT_SECONDS)


def _read(file: Path) -> dict[str, Row]:
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return {line["identity"]: line for line in map(json.loads, text.splitlines())}


def _rounded(found: Any) -> Any:
    return {name: _rounded(value) for name, value in found.items()} if isinstance(found, dict) else round(found, DIGITS)
