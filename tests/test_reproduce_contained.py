"""One training in place of several: what a run is part of gives the bits that it would have given alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from subspace_serve.space.checkpoint import load_subspace
from trainer.config import TrainingConfig
from trainer.reproduce.cache import BusyError, Cache
from trainer.reproduce.contained import contains, shortest_whole
from trainer.reproduce.description import Case
from trainer.reproduce.measures import Alone
from trainer.reproduce.work import Task, missing, perform_all

pytestmark = pytest.mark.slow

TINY = {"data": "digits", "architecture": "cresnet8-4", "batch_size": 128, "train_images": 256, "epochs": 3}
STANDARD = TrainingConfig(subspace="standard", **TINY)
STOPPING = TrainingConfig(subspace="standard", early_stopping=True, **TINY)


def ensemble(members: int, **settings) -> TrainingConfig:
    return TrainingConfig(subspace="ensemble", endpoints=members, **TINY | settings)


def averaging(members: int, **settings) -> TrainingConfig:
    return TrainingConfig(subspace="swa", endpoints=members, **TINY | {"epochs": 4, "tail": 0.5} | settings)


@pytest.mark.parametrize(
    ("whole", "part", "answer"),
    [
        (STOPPING, STANDARD, True),
        (ensemble(3), STANDARD, True),
        (ensemble(3), ensemble(2), True),
        (ensemble(3, shared=0.5), ensemble(2, shared=0.5), True),
        (STANDARD, STOPPING, False),
        (STANDARD, STANDARD, False),
        (ensemble(2), ensemble(3), False),
        (ensemble(3), STOPPING, False),
        (ensemble(3, shared=0.5), STANDARD, False),
        (ensemble(3, shared=0.5), ensemble(2), False),
        (ensemble(3, epochs=4), STANDARD, False),
        (ensemble(3, seed=1), ensemble(2), False),
        (ensemble(3), TrainingConfig(subspace="line", **TINY), False),
        (averaging(6, epochs=12), averaging(3, epochs=12), True),
        (averaging(6, epochs=12), averaging(2, epochs=12), True),
        (averaging(6, epochs=12), averaging(4, epochs=12), False),  # keeps networks after other steps
        (averaging(6, epochs=12), averaging(6, epochs=12), False),
        (averaging(4), averaging(2), False),  # more members than epochs in the tail
        (averaging(6, epochs=12), averaging(3, epochs=12, tail=0.75), False),
        (averaging(6, epochs=12, tail_schedule="cyclic"), averaging(3, epochs=12, tail_schedule="cyclic"), False),
        (averaging(2), STANDARD, False),
    ],
)
def test_which_runs_are_part_of_which(whole: TrainingConfig, part: TrainingConfig, answer: bool) -> None:
    assert contains(whole, part) is answer


def test_the_shortest_is_chosen() -> None:
    assert shortest_whole(STANDARD, [ensemble(3), STOPPING, ensemble(2)]) == STOPPING
    assert shortest_whole(ensemble(2), [STANDARD, STOPPING]) is None


@pytest.mark.parametrize(
    ("whole", "part"),
    [
        (STOPPING, STANDARD),
        (ensemble(3), STANDARD),
        (ensemble(3), ensemble(2)),
        (averaging(4, tail=1.0), averaging(2, tail=1.0)),
    ],
)
def test_a_part_has_the_bits_of_a_run_of_its_own(whole: TrainingConfig, part: TrainingConfig, tmp_path: Path) -> None:
    trained: list[str] = []
    found = load_subspace(Cache(tmp_path / "whole", trained.append).run(part, whole))
    alone = load_subspace(Cache(tmp_path / "alone").run(part))
    assert trained
    assert all(whole.run_name in line for line in trained)
    assert found.geometry == alone.geometry
    assert found.provenance == alone.provenance
    for ours, theirs in zip(found.endpoints, alone.endpoints, strict=True):
        assert all(np.array_equal(ours[name], array) for name, array in theirs.items())


def test_what_is_found_in_another_run_is_not_trained_again(tmp_path: Path) -> None:
    lines: list[str] = []
    cache = Cache(tmp_path, lines.append)
    tasks = [Task("panel", Case(str(run.endpoints)), run, Alone(64, 128)) for run in (STANDARD, ensemble(2))]
    left = missing(tasks, cache)
    assert [task.whole for task in left] == [ensemble(2), None]
    perform_all(left[:1], cache, 1)
    assert sum(line.startswith("trained") for line in lines) == 2 * TINY["epochs"]  # each of the ensemble's epochs
    lines.clear()
    perform_all(missing(tasks, cache), cache, 1)
    assert not any(line.startswith("trained") for line in lines)
    assert missing(tasks, cache) == []


def test_a_finished_run_is_preferred_to_one_that_is_wanted(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    tasks = [Task("panel", Case(str(run.endpoints)), run, Alone(64, 128)) for run in (STANDARD, STOPPING, ensemble(2))]
    cache.run(ensemble(2))
    assert [task.whole for task in missing(tasks, cache)] == [ensemble(2), None, None]


def test_a_part_of_what_another_process_trains_is_left_to_it(tmp_path: Path) -> None:
    from subspace_serve.files import held

    cache = Cache(tmp_path)
    with held(cache._entry(STOPPING)) as ours:
        assert ours
        with pytest.raises(BusyError):
            cache.run(STANDARD, STOPPING)
    assert not cache.finished(STANDARD)
