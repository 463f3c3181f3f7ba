"""From figures to measurements: which runs, with which seeds, and how processes share the work."""

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
from trainer.reproduce.contained import shortest_whole
from trainer.reproduce.description import Case, Figure, Measurement, Wanted
from trainer.reproduce.measures import Measure, Trained
from trainer.reproduce.scales import Panel, Scale

WAIT_SECONDS = 1.0
"""How long to wait before checking again whether other processes are still busy."""


@dataclass(frozen=True)
class Task:
    """One measurement on one run.

    Attributes:
        panel: title of the panel that it is for.
        case: the run's in its figure.
        config: the run's settings.
        measure: what is measured.
        whole: the settings of a run that contains it, to be trained in its place; None to train it alone.
    """

    panel: str
    case: Case
    config: TrainingConfig
    measure: Measure
    whole: TrainingConfig | None = None

    def perform(self, cache: Cache) -> Measurement:
        """Return the measurement, training and measuring if it has not been made.

        Raises:
            BusyError: another process is working on it.
            SubspaceServeError: training or measuring fails.
        """
        key = self.measure.key()
        known = cache.known(self.config, key)
        if known is not None:
            return known
        run = Trained(self.config, cache.run(self.config, self.whole), cache.run)
        return cache.measurement(self.config, key, partial(self.measure.of, run))


def measured(tasks: Sequence[Task], cache: Cache) -> dict[str, dict[Case, list[Measurement]]]:
    """Return the measurements of tasks by panel and case, one per seed, making those that are missing."""
    panels: dict[str, dict[Case, list[Measurement]]] = {}
    for task in tasks:
        panels.setdefault(task.panel, {}).setdefault(task.case, []).append(task.perform(cache))
    return panels


def tasks_of(
    figure: Figure, scale: Scale, data: dict[str, str], seeds: int | None = None, device: str | None = None
) -> list[Task]:
    """Return a figure's measurements, panel by panel and seed by seed.

    Args:
        figure: the figure.
        scale: where its data, networks and seeds are from.
        data: specifications that replace those of the scale's data sets, by name: `{"imagenet": "imagenet:/data"}`.
        seeds: how many; the scale's when None.
        device: where to train; the panel's when None. What is trained on another device is another run.

    Raises:
        TrainingError: the scale has none of the figure's panels.
    """
    count = min(seeds or scale.seeds, figure.seeds or seeds or scale.seeds)
    tasks = [
        Task(panel.title, case, _config(panel, case, wanted, seed, data, device), wanted.measure)
        for panel in (scale.panels[name] for name in figure.panels if name in scale.panels)
        for seed in range(count)
        for case, wanted in figure.runs(scale).items()
    ]
    if not tasks:
        raise TrainingError(
            f"figure {figure.name} is made on {', '.join(figure.panels)}; {scale.name} has none of them"
        )
    # At a small scale several panels may be the same one.
    return list({(task.panel, task.case, task.config.seed): task for task in tasks}.values())


def _config(
    panel: Panel, case: Case, wanted: Wanted, seed: int, data: dict[str, str], device: str | None
) -> TrainingConfig:
    merged = panel.settings | wanted.settings | case.settings | {"seed": seed, "data_seed": seed}
    merged["epochs"] = max(1, round((case.length or 1) * merged["epochs"]))
    merged["data"] = data.get(merged["data"], merged["data"])
    return TrainingConfig(**merged | ({"device": device} if device else {}))


def is_measured(task: Task, cache: Cache) -> bool:
    """Return whether the measurement has been made."""
    return cache.measured_file(task.config, task.measure.key()).exists()


def missing(tasks: Sequence[Task], cache: Cache) -> list[Task]:
    """Return the measurements that have not been made, each once, with the runs that contain theirs."""
    by_file = {cache.measured_file(task.config, task.measure.key()): task for task in tasks}
    left = [task for task in by_file.values() if not is_measured(task, cache)]
    finished = [task.config for task in tasks if cache.finished(task.config)]
    needed = [task.config for task in left]
    return [
        replace(task, whole=shortest_whole(task.config, finished) or shortest_whole(task.config, needed))
        for task in left
    ]


def perform_all(tasks: Sequence[Task], cache: Cache, workers: int) -> None:
    """Perform tasks in several processes, skipping what is in the cache.

    Any number of programs may work on one cache at a time: each takes what no other is busy with.

    Args:
        tasks: what to do.
        cache: where results lie.
        workers: number of processes; when there are several, each uses one thread and prints its progress.

    Raises:
        SubspaceServeError: the first error, after all tasks have been tried.
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
    """Perform what no other process is busy with, until all is done; a task that fails does not stop the others."""
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
