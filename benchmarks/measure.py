"""What the benchmarks share: interleaved timing, its statistics, and the form of a report.

A machine's speed drifts while it is measured, so candidates take turns and are compared round by round: a figure is
the median of the rounds' ratios, given with its quartiles.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import numpy as np
import torch

from subspace_serve.cli.output import write_json
from subspace_serve.data import MemoryImages
from subspace_serve.packages import versions
from trainer.reproduce.hardware import processor

Seconds = dict[str, list[float]]
"""The times of each candidate, one per round."""


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def interleaved(candidates: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int) -> Seconds:
    """Time every candidate once per round, each round starting with a different one; warm-up rounds are not kept."""
    names = list(candidates)
    seconds: Seconds = {name: [] for name in names}
    for index in range(warm_up + rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            duration = timed(candidates[name])
            if index >= warm_up:
                seconds[name].append(duration)
        click.echo(f"round {index + 1} of {warm_up + rounds}: {', '.join(names)}", err=True)
    return seconds


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the median and the quartiles."""
    lower, median, upper = (float(f"{value:.4g}") for value in np.percentile(values, [25, 50, 75]))
    return {"median": median, "quartiles": [lower, upper]}


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, Any]:
    """Return the median and the quartiles of two candidates' ratio, taken round by round."""
    return summary([a / b for a, b in zip(numerators, denominators, strict=True)])


def at_most(limit: float, figure: dict[str, Any]) -> dict[str, Any]:
    """Add a target, and whether the median meets it."""
    return figure | {"at_most": limit, "met": figure["median"] <= limit}


def at_least(limit: float, figure: dict[str, Any]) -> dict[str, Any]:
    """Add a target, and whether the median meets it."""
    return figure | {"at_least": limit, "met": figure["median"] >= limit}


def synthetic_images(count: int, height: int, width: int, channels: int, classes: int) -> MemoryImages:
    """Return random pixels, labelled with every class in turn; the cost of a step does not depend on their content."""
    pixels = np.random.default_rng(0).integers(256, size=(count, height, width, channels), dtype=np.uint8)
    return MemoryImages(pixels, np.arange(count) % classes)


def environment() -> dict[str, Any]:
    """Return the hardware and the versions for a report."""
    return {
        "hardware": {
            "processor": processor(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": versions(),
    }


def measurement_options(command: Callable) -> Callable:
    """Add the options that every benchmark has; they arrive as `rounds`, `threads` and `json_file`."""
    for decorate in (
        click.option("--rounds", type=click.IntRange(1), default=20, show_default=True, help="10 or more to quote."),
        click.option("--threads", type=click.IntRange(0), default=0, help="Of torch; 0, the default, leaves it be."),
        click.option("--json", "json_file", metavar="FILE", help="Write the report to a file, too."),
    ):
        command = decorate(command)
    return command


def use_threads(threads: int) -> None:
    """Set torch's threads; 0 leaves them as they are."""
    if threads:
        torch.set_num_threads(threads)


def report(document: dict[str, Any], json_file: str | None) -> None:
    """Print a report, and write it to a file when one is named."""
    for destination in {"-", json_file or "-"}:
        write_json(document, destination)
