"""Where torch computes."""

from __future__ import annotations

import torch

from subspace_serve.errors import SubspaceServeError


def choose_device(name: str = "auto") -> torch.device:
    """Return the device for `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`.

    Raises:
        SubspaceServeError: CUDA, or its device of a number, is asked for and is missing, or the name is none of these.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise SubspaceServeError(f"unknown device {name!r}; choose auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SubspaceServeError("CUDA was asked for and torch finds no CUDA device here; choose auto or cpu")
    if device.index is not None and device.type == "cuda" and device.index >= torch.cuda.device_count():
        there = ", ".join(f"cuda:{index}" for index in range(torch.cuda.device_count()))
        raise SubspaceServeError(f"{name} was asked for and torch finds only {there} here; choose one of those")
    return device
