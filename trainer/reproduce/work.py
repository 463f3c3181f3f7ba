"""From figures to measurements: which runs with which seeds, and processes that share the work."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from subspace_serve.errors import DataError, SubspaceServeError, TrainingError
from trainer.config import TrainingConfig
from trainer.reproduce.cache import BusyError, Cache
from trainer.reproduce.description import Figure, Measurement
from trainer.reproduce.measures import Measure, Trained
from trainer.reproduce.scales import Panel, Scale

WAIT_SECONDS = 1.0
"""Between two looks at what other processes are busy with."""


@dataclass(frozen=True)
class Task:
    """One measurement on one run.

    Attributes:
        panel: title of the panel that it is for.
        label: of the run in its figure.
        config: the run's settings.
        measure: what is measured.
    """

    panel: str
    label: str
    config: TrainingConfig
    measure: Measure

    def perform(self, cache: Cache) -> Measurement:
        """Return the measurement; train and measure where it is not there.

        Raises:
            BusyError: another process is at work on it.
            SubspaceServeError: training or measuring fails.
        """
        key = self.measure.key()
        if cache.measured_file(self.config, key).exists():
            return cache.measurement(self.config, key, dict)
        run = Trained(self.config, cache.run(self.config), cache.run)
        return cache.measurement(self.config, key, partial(self.measure.of, run))


def tasks_of(figure: Figure, scale: Scale, data: dict[str, str], seeds: int | None = None) -> list[Task]:
    """Return a figure's measurements, panel by panel and seed by seed.

    Args:
        figure: which.
        scale: how large.
        data: specifications that take the place of the scale's data sets, by name: `{"imagenet": "imagenet:/data"}`.
        seeds: how many; the scale's when None.

    Raises:
        TrainingError: the scale has none of the figure's panels.
    """
    count = min(seeds or scale.seeds, figure.seeds or seeds or scale.seeds)
    tasks = [
        Task(
            panel.title,
            label,
            _config(panel, wanted.settings, wanted.length, seed, data),
            wanted.measure,
        )
        for panel in (scale.panels[name] for name in figure.panels if name in scale.panels)
        for seed in range(count)
        for label, wanted in figure.runs(scale).items()
    ]
    if not tasks:
        raise TrainingError(
            f"figure {figure.name} is made on {', '.join(figure.panels)}; {scale.name} has none of them"
        )
    # Panels of a small scale may be one and the same.
    return list({(task.panel, task.label, task.config.seed): task for task in tasks}.values())


def _config(panel: Panel, settings: dict[str, Any], length: float, seed: int, data: dict[str, str]) -> TrainingConfig:
    merged = panel.settings | settings | {"seed": seed, "data_seed": seed}
    merged["epochs"] = max(1, round(length * merged["epochs"]))
    merged["data"] = data.get(merged["data"], merged["data"])
    return TrainingConfig(**merged)


def perform_all(tasks: Sequence[Task], cache: Path, workers: int, say: Callable[[str], None]) -> None:
    """Perform tasks with several processes; what is in the cache is done already.

    Any number of programs may work on one cache at a time: each takes what nobody is busy with.

    Args:
        tasks: what to do.
        cache: the cache's folder.
        workers: processes; each computes on one core when there are several.
        say: called with lines of progress.

    Raises:
        SubspaceServeError: the first error of any process, after all have stopped.
    """
    if workers <= 1:
        _perform(tasks, Cache(cache, say))
        return
    context = multiprocessing.get_context("spawn")
    errors: Any = context.Queue()
    processes = [
        context.Process(target=_worker, args=(tasks, cache, errors), name=f"worker {index}") for index in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            while process.is_alive():
                process.join(WAIT_SECONDS)
            if process.exitcode:
                kind, message = errors.get() if not errors.empty() else ("", f"ended with status {process.exitcode}")
                raise (DataError if kind == DataError.__name__ else TrainingError)(message)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _worker(tasks: Sequence[Task], cache: Path, errors: Any) -> None:
    torch.set_num_threads(1)
    try:
        _perform(tasks, Cache(cache, partial(print, flush=True)))
    except (SubspaceServeError, OSError) as error:
        errors.put((type(error).__name__, str(error)))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _perform(tasks: Sequence[Task], cache: Cache) -> None:
    """Perform what nobody else is busy with until all is done; an error of one task does not keep the others."""
    waiting = list(tasks)
    errors: list[SubspaceServeError] = []
    while waiting:
        busy = []
        for task in waiting:
            try:
                task.perform(cache)
            except BusyError:
                busy.append(task)
            except SubspaceServeError as error:
                errors.append(error)
        if len(busy) == len(waiting):
            time.sleep(WAIT_SECONDS)
        waiting = busy
    if errors:
        raise errors[0]
