"""The cost of an epoch of each training method, relative to standard training; part of `benchmarks.training`.

Whole runs of the trainer, with all that they write, take turns on the same images. The runs are short, so what a method
does once (keeping a member, fitting a Gaussian) weighs more here than in a long run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import at_most, interleaved, ratio, synthetic_images
from trainer.config import TrainingConfig
from trainer.training import train
from trainer.trajectory import planned_epochs

EPOCHS = 2
WARM_UP = 1
MEMBERS = 2
EPOCH_LIMIT = 1.02

METHODS: dict[str, dict[str, Any]] = {
    "standard": {"subspace": "standard"},
    "line": {"subspace": "line", "samples": 1},
    "line_default": {"subspace": "line"},
    "swa": {"subspace": "swa", "endpoints": MEMBERS, "tail": 0.5},
    "swag": {"subspace": "swag", "endpoints": MEMBERS, "tail": 0.5},
    "snapshot": {"subspace": "snapshot", "endpoints": MEMBERS},
    "fge": {"subspace": "fge", "endpoints": MEMBERS, "tail": 0.5},
    "ensemble": {"subspace": "ensemble", "endpoints": MEMBERS},
    "integral": {"subspace": "integral"},
    "early_stopping": {"subspace": "standard", "early_stopping": True},
}
LIMITED = ("swa", "snapshot", "fge")


def measure_epochs(architecture: str, images: int, batch_size: int, rounds: int) -> dict[str, Any]:
    """Train with every method in turn; return each one's seconds per epoch relative to standard training's."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "images.npz"
        parts = {part: synthetic_images(count, 32, 32, 3, 10) for part, count in (("train", images), ("val", 256))}
        arrays = {f"{part}_images": of_part.pixels for part, of_part in parts.items()}
        arrays |= {f"{part}_labels": of_part.labels for part, of_part in parts.items()}
        np.savez(data, **arrays)  # type: ignore[arg-type]
        configs = {
            name: TrainingConfig(
                data=str(data),
                architecture=architecture,
                batch_size=batch_size,
                epochs=EPOCHS,
                device="cpu",
                **settings,
            )
            for name, settings in METHODS.items()
        }
        candidates: dict[str, Callable[[], object]] = {
            name: partial(train, config, Path(folder) / name, overwrite=True) for name, config in configs.items()
        }
        seconds = interleaved(candidates, rounds=rounds, warm_up=WARM_UP)
    per_epoch = {name: [value / len(planned_epochs(configs[name])) for value in seconds[name]] for name in METHODS}
    ratios = {name: ratio(per_epoch[name], per_epoch["standard"]) for name in METHODS if name != "standard"}
    return {
        "settings": {"architecture": architecture, "batch_size": batch_size, "images": images, "epochs": EPOCHS},
        "ratios": {
            name: at_most(EPOCH_LIMIT, figure) if name in LIMITED else figure for name, figure in ratios.items()
        },
    }
