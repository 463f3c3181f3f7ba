"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from trainer.devices import choose_device


def hardware(device: str) -> str:
    """Return what is computed on, as text: cores and processor, and the GPU where `device` is one."""
    chosen = choose_device(device)
    gpu = [torch.cuda.get_device_name(chosen)] if chosen.type == "cuda" else []
    return ", ".join([f"{os.cpu_count()} cores", processor(), *gpu])


def processor() -> str:
    """Return the processor's name, as Linux tells it; elsewhere what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
