"""Named settings: the paper's (section 4 and appendix D)."""

from __future__ import annotations

from typing import Any

from trainer.methods import NEUTRAL

PAPER_METHOD: dict[str, Any] = NEUTRAL | {
    "beta": 1.0,
    "beta_schedule": "constant",
    "layerwise": False,
    "initialisation": "independent",
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "warmup_epochs": 5.0,
}
"""Algorithm 1 as the paper runs it: the settings that depend neither on the data nor on the network."""

_PAPER: dict[str, Any] = PAPER_METHOD | {
    "subspace": "line",
    # The paper trains on every training image and sets none aside.
    "validation": 0.0,
    "epochs": 160,
    "batch_size": 128,
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": PAPER_METHOD,
    "paper-cifar10": _PAPER | {"data": "cifar10", "architecture": "cresnet20"},
    "paper-tiny-imagenet": _PAPER | {"data": "tiny-imagenet", "architecture": "tiny-resnet18"},
    # "Following Xie et al. (2019)": batch size 256 and weight decay 5e-5; 100 epochs for WideResNet50, 200 for
    # ResNet50 (section 4.4).
    "paper-imagenet": _PAPER
    | {"data": "imagenet", "architecture": "resnet50", "epochs": 200, "batch_size": 256, "weight_decay": 5e-5},
}
"""Training settings by the name of the preset."""
