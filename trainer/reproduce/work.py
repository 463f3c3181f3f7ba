"""From figures to measurements: which runs with which seeds, and processes that share the work."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial

import torch

from subspace_serve.errors import SubspaceServeError, TrainingError
from trainer.config import TrainingConfig
from trainer.reproduce.cache import BusyError, Cache
from trainer.reproduce.description import Case, Figure, Measurement, Wanted
from trainer.reproduce.measures import Measure, Trained
from trainer.reproduce.scales import Panel, Scale

WAIT_SECONDS = 1.0
"""Between two looks at what other processes are busy with."""


@dataclass(frozen=True)
class Task:
    """One measurement on one run.

    Attributes:
        panel: title of the panel that it is for.
        case: the run's in its figure.
        config: the run's settings.
        measure: what is measured.
    """

    panel: str
    case: Case
    config: TrainingConfig
    measure: Measure

    def perform(self, cache: Cache) -> Measurement:
        """Return the measurement; train and measure where it is not there.

        Raises:
            BusyError: another process is at work on it.
            SubspaceServeError: training or measuring fails.
        """
        key = self.measure.key()
        known = cache.known(self.config, key)
        if known is not None:
            return known
        run = Trained(self.config, cache.run(self.config), cache.run)
        return cache.measurement(self.config, key, partial(self.measure.of, run))


def measured(tasks: Sequence[Task], cache: Cache) -> dict[str, dict[Case, list[Measurement]]]:
    """Return the measurements of tasks by panel and case, one a seed; make what is not there."""
    panels: dict[str, dict[Case, list[Measurement]]] = {}
    for task in tasks:
        panels.setdefault(task.panel, {}).setdefault(task.case, []).append(task.perform(cache))
    return panels


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
        Task(panel.title, case, _config(panel, case, wanted, seed, data), wanted.measure)
        for panel in (scale.panels[name] for name in figure.panels if name in scale.panels)
        for seed in range(count)
        for case, wanted in figure.runs(scale).items()
    ]
    if not tasks:
        raise TrainingError(
            f"figure {figure.name} is made on {', '.join(figure.panels)}; {scale.name} has none of them"
        )
    # Panels of a small scale may be one and the same.
    return list({(task.panel, task.case, task.config.seed): task for task in tasks}.values())


def _config(panel: Panel, case: Case, wanted: Wanted, seed: int, data: dict[str, str]) -> TrainingConfig:
    merged = panel.settings | wanted.settings | case.settings | {"seed": seed, "data_seed": seed}
    merged["epochs"] = max(1, round((case.length or 1) * merged["epochs"]))
    merged["data"] = data.get(merged["data"], merged["data"])
    return TrainingConfig(**merged)


def perform_all(tasks: Sequence[Task], cache: Cache, workers: int) -> None:
    """Perform tasks with several processes; what is in the cache is done already.

    Any number of programs may work on one cache at a time: each takes what nobody is busy with.

    Args:
        tasks: what to do.
        cache: where results lie.
        workers: processes; each computes on one core and prints its progress when there are several.

    Raises:
        SubspaceServeError: the first error of any process, after all have stopped.
    """
    if workers <= 1:
        _perform(tasks, cache)
        return
    printing = replace(cache, say=partial(print, flush=True))
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        futures = [pool.submit(_perform, tasks, printing) for _ in range(workers)]
    try:
        for future in futures:
            future.result()
    except BrokenProcessPool as error:
        raise TrainingError(
            f"a process that shared the work was ended ({error}); run the same command again"
        ) from error


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
