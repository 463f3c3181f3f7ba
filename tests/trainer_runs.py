"""Tiny runs on digits for the trainer's tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.space.checkpoint import load_subspace
from subspace_serve.space.subspace import Subspace, Weights
from trainer.config import TrainingConfig
from trainer.training import train

# 1293 training images make five steps of 256 an epoch.
TINY: dict[str, Any] = {"data": "digits", "architecture": "cresnet8-4", "epochs": 2, "batch_size": 256}
STEPS = 5


def run(folder: Path, **settings: Any) -> list[Subspace]:
    """Train, and return what lay on disk after each epoch."""
    found: list[Subspace] = []
    train(TrainingConfig(**(TINY | settings)), folder, report=lambda record: found.append(load_subspace(folder)))
    return found


def records_of(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def same(first: Weights, second: Weights) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def unlike(first: Weights, second: Weights) -> bool:
    """Return whether no parameter of one network is the other's."""
    return not any(np.array_equal(first[name], second[name]) for name in first)
