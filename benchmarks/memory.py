"""Memory of one short training run, in its own process: `python -m benchmarks.memory --subspace line`.

Runs the trainer on random images for two epochs and prints one JSON object:

- `tensor_bytes`: all tensors alive after the last step, counted exactly, each storage once;
- `resident_bytes`: the process's highest resident set in the whole run, less what it held before training;
  initialisation and the checkpoint after each epoch are included.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import numpy as np
import psutil
import torch

from benchmarks.measure import synthetic_images
from trainer.config import TrainingConfig
from trainer.methods import NEUTRAL
from trainer.training import train

SIDE, CHANNELS, CLASSES = 32, 3, 10
STEPS = 3


def measure(subspace: str, endpoints: int | None, architecture: str, batch_size: int) -> dict[str, int]:
    """Train for two epochs of three steps; return the figures described above."""
    tensor_bytes = 0

    def track(batches: Iterable, length: int, label: str) -> Iterator:
        nonlocal tensor_bytes
        yield from batches
        tensor_bytes = live_tensor_bytes()

    train_count = STEPS * batch_size
    images = synthetic_images(train_count + CLASSES, SIDE, SIDE, CHANNELS, CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "noise.npz"
        np.savez(
            data,
            train_images=images.pixels[:train_count],
            train_labels=images.labels[:train_count],
            test_images=images.pixels[train_count:],
            test_labels=images.labels[train_count:],
        )
        config = TrainingConfig(
            **NEUTRAL,
            data=str(data),
            architecture=architecture,
            subspace=subspace,
            endpoints=endpoints,
            batch_size=batch_size,
            validation=0.0,
            epochs=2,
            device="cpu",
        )
        before = psutil.Process().memory_info().rss
        train(config, Path(folder) / "run", track=track)
    return {"tensor_bytes": tensor_bytes, "resident_bytes": resident_high_water() - before}


def live_tensor_bytes() -> int:
    """Return the bytes of all tensors that are alive on the CPU, counting shared storage once."""
    gc.collect()
    tensors = [value for value in gc.get_objects() if type(value) in (torch.Tensor, torch.nn.Parameter)]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def resident_high_water() -> int:
    """Return the highest resident set that this process ever had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux ru_maxrss is inherited from the parent process; VmHWM is this process's alone.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


@click.command()
@click.option("--subspace", default="line", show_default=True, help="standard, line, curve or simplex.")
@click.option("--endpoints", type=int, help="Of a simplex.")
@click.option("--architecture", default="resnet18", show_default=True)
@click.option("--batch-size", default=16, show_default=True)
def main(subspace: str, endpoints: int | None, architecture: str, batch_size: int) -> None:
    """Print the memory that one short training run takes, as JSON."""
    click.echo(json.dumps(measure(subspace, endpoints, architecture, batch_size)))


if __name__ == "__main__":
    main()
