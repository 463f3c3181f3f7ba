"""Two ranks on two cores, compared with one process with two threads: `python -m benchmarks.ranks`.

Prints one JSON document. Both train the same network on the same batches of random 32x32 colour images on the CPU,
input work included, in separate processes that take turns (see `benchmarks.measure`) and sleep in between.

- `seconds`: what the steps of a round take.
- `throughput`: images per second of the two ranks (one thread each, over gloo), relative to the one process. `line` has
  one place for both ranks, which share its batch; `line_2_samples` has two places, one per rank.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import click
import numpy as np
import torch

from benchmarks.measure import (
    at_least,
    environment,
    interleaved,
    measurement_options,
    ratio,
    report,
    summary,
    synthetic_images,
)
from benchmarks.servers import free_port
from benchmarks.training import AUGMENTATION, CHANNELS, CLASSES, LEARNING_RATE, PREPROCESSING, SIDE
from subspace_serve.space.architecture import Architecture
from trainer.config import TrainingConfig
from trainer.preparation import prepared_stepper, starting_points
from trainer.preprocessing import preprocess
from trainer.ranks import Ranks
from trainer.schedule import StepSettings

WORLD_SIZE = 2
THROUGHPUT_LIMIT = 0.9
WARM_UP = 2
SUBSPACES: dict[str, dict[str, Any]] = {"line": {"samples": 1}, "line_2_samples": {"samples": 2}}


class Workers:
    """Processes that train together, started as by torchrun; each waits for a line of input before every round."""

    def __init__(self, job: dict[str, Any], *, world_size: int, threads: int) -> None:
        """Start `world_size` processes with `threads` threads each, which take `job["steps"]` steps per round."""
        shared = os.environ | {
            "WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "OMP_NUM_THREADS": str(threads),
        }
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.ranks", "--worker", json.dumps(job)],
                env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(world_size)
        ]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def round(self) -> None:
        """Let all of them take a round's steps, and wait for the last one to finish.

        Raises:
            click.ClickException: a process ended.
        """
        for process in self.processes:
            print("go", file=process.stdin, flush=True)
        for process in self.processes:
            if process.stdout is None or process.stdout.readline() != "done\n":
                raise click.ClickException("a worker ended; what it said stands above")


def work(job: dict[str, Any]) -> None:
    """For each line of input, take the job's `steps` and then print `done`."""
    ranks = Ranks.current()
    config = TrainingConfig(architecture=job["architecture"], batch_size=job["batch_size"], device="cpu", **job["line"])
    architecture = Architecture(config.architecture, CLASSES, CHANNELS, SIDE, SIDE)
    stepper = prepared_stepper(config, architecture, starting_points(config, architecture), ranks)
    for network in stepper.networks:
        network.model.train()
    batches, generator = _batches(stepper.division.part, job), np.random.default_rng(0)
    for _ in sys.stdin:
        for _ in range(job["steps"]):
            pixels, labels = next(batches)
            stepper.step(
                preprocess(pixels, PREPROCESSING),
                torch.from_numpy(labels),
                generator,
                StepSettings(LEARNING_RATE),
                config.batch_size,
            )
        print("done", flush=True)


def _batches(part: Any, job: dict[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    images = synthetic_images(job["steps"] * job["batch_size"], SIDE, SIDE, CHANNELS, CLASSES)
    generator = np.random.default_rng(0)
    while True:
        yield from images.batches(job["batch_size"], generator=generator, augmentation=AUGMENTATION, part=part)


def measure_throughput(architecture: str, batch_size: int, steps: int, rounds: int) -> dict[str, Any]:
    """Let one process and two ranks take turns; return the figures described above for each subspace."""
    document = {}
    for name, line in SUBSPACES.items():
        job = {"architecture": architecture, "batch_size": batch_size, "steps": steps, "line": line}
        with ExitStack() as stack:
            one = stack.enter_context(Workers(job, world_size=1, threads=WORLD_SIZE))
            two = stack.enter_context(Workers(job, world_size=WORLD_SIZE, threads=1))
            seconds = interleaved({"one_process": one.round, "two_ranks": two.round}, rounds=rounds, warm_up=WARM_UP)
        document[name] = {
            "seconds": {candidate: summary(times) for candidate, times in seconds.items()},
            "throughput": at_least(THROUGHPUT_LIMIT, ratio(seconds["one_process"], seconds["two_ranks"])),
        }
    return document


@click.command()
@measurement_options
@click.option("--architecture", "architectures", multiple=True, default=("cresnet20", "cresnet8-16"), show_default=True)
@click.option("--batch-size", type=click.IntRange(WORLD_SIZE), default=128, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=5, show_default=True, help="Steps a round.")
@click.option("--worker", hidden=True, help="A job: this process is one of the workers.")
def main(
    rounds: int,
    threads: int,
    json_file: str | None,
    architectures: tuple[str, ...],
    batch_size: int,
    steps: int,
    worker: str | None,
) -> None:
    """Measure two ranks on two cores against one process with two threads; print JSON."""
    if worker is not None:
        work(json.loads(worker))
        return
    if threads:
        raise click.UsageError("the threads are what is compared: one process has two, two ranks have one each")
    started = time.perf_counter()
    document = {
        "benchmark": "ranks",
        **environment(),
        "settings": {"batch_size": batch_size, "steps": steps, "rounds": rounds, "world_size": WORLD_SIZE},
        **{name: measure_throughput(name, batch_size, steps, rounds) for name in architectures},
    }
    report(document | {"minutes": round((time.perf_counter() - started) / 60, 1)}, json_file)


if __name__ == "__main__":
    main()
