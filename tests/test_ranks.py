"""Ranks: what they tell each other, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rank_processes import LIMIT, ROOT, RankProcesses, run_ranks, run_script

from subspace_serve.errors import RankError
from trainer.ranks import Ranks

pytestmark = pytest.mark.slow


def test_one_process_gets_back_what_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    ranks = Ranks.current()
    assert ranks == Ranks(0, 1, 0)
    assert ranks.is_first
    assert ranks.speaks()
    assert ranks.everyones("a") == ["a"]
    assert ranks.broadcast("a") == "a"
    values = torch.tensor([1.0, 2.0])
    ranks.reduce_(values)
    ranks.broadcast_(values)
    assert values.tolist() == [1.0, 2.0]
    assert ranks.stack(values).tolist() == [[1.0, 2.0]]
    ranks.check_same("data", 3)
    assert ranks.device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("name", "value"), [("WORLD_SIZE", "two"), ("RANK", "-1")])
def test_an_environment_that_is_not_torchruns_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(RankError, match=f"{name} is '{value}', no whole number"):
        Ranks.current()


def test_a_timeout_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("SUBSPACE_SERVE_RANKS_TIMEOUT", "long")
    with pytest.raises(RankError, match="SUBSPACE_SERVE_RANKS_TIMEOUT is 'long'; give a number of seconds"):
        Ranks.current()


TALK = """
import torch
from subspace_serve.errors import RankError
from trainer.ranks import Ranks

with Ranks.current() as ranks:
    assert ranks == Ranks.current()
    assert ranks.everyones(ranks.rank * 10) == [0, 10, 20]
    assert ranks.broadcast({"rank": ranks.rank}) == {"rank": 0}
    values = torch.tensor([1.0, ranks.rank])
    ranks.reduce_(values)
    assert values.tolist() == [3.0, 3.0]
    values = torch.full((2,), float(ranks.rank))
    assert ranks.stack(values).tolist() == [[0, 0], [1, 1], [2, 2]]
    ranks.broadcast_(values)
    assert values.tolist() == [0, 0]
    ranks.check_same("data", {"name": "digits"})
    for value in ({"name": "digits", "seed": 3 if ranks.rank == 1 else 4}, ranks.rank):
        try:
            ranks.check_same("data", value)
        except RankError as error:
            print(error)
    print("first" if ranks.speaks() else "second")
assert not torch.distributed.is_initialized()
"""


def test_three_ranks_tell_sum_and_compare() -> None:
    ends = run_script(TALK, 3)
    assert [end.status for end in ends] == [0, 0, 0], ends
    speakers = []
    for end in ends:
        *differences, speaker = end.out.splitlines()
        speakers.append(speaker)
        assert differences == [
            "rank 1 has other data than rank 0: seed 3 instead of seed 4; start every rank with the same",
            "ranks 1 and 2 have other data than rank 0: 1 instead of 0; start every rank with the same",
        ]
    assert sorted(speakers) == ["first", "second", "second"]


KILLED = """
import os, signal, sys
from subspace_serve.errors import RankError
from trainer.ranks import Ranks

ranks = Ranks.current()
ranks.everyones("here")
if ranks.rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
try:
    ranks.everyones("still here")
except RankError as error:
    # Not sys.exit: at the end of a process whose group broke, torch's threads can abort it.
    print(f"told: {error}", file=sys.stderr, flush=True)
    os._exit(1)
"""


def test_a_rank_that_is_killed_is_one_clear_error_of_the_others() -> None:
    first, second, third = run_script(KILLED, 3)
    assert second.status == -9
    for end in (first, third):
        assert end.status == 1
        assert "told: another rank ended or cannot be reached any more (" in end.err
        assert "--resume RUN" in end.err
        assert "Traceback" not in end.err


def test_a_rank_that_does_not_come_ends_the_wait() -> None:
    script = "from trainer.ranks import Ranks\ntry:\n    Ranks.current(timeout=2)\nexcept Exception as e: print(e)"
    (end,) = run_script(script, 2, absent=[1])
    assert end.out.startswith("rank 0 of 2 found no group within 2 s (")
    assert "--rdzv-endpoint" in end.out


def test_an_error_that_every_rank_has_is_said_once_under_torchrun(tmp_path: Path) -> None:
    launcher = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "2"]
    shared = subprocess.run(
        [*launcher, "-m", "subspace_serve", "train", "--data", "nowhere.npz"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert shared.returncode == 1
    assert "exitcode  : 1" in shared.stderr
    assert shared.stderr.count("Error: there is no file nowhere.npz") == 1, shared.stderr


def test_a_mistake_in_the_command_is_said_once(tmp_path: Path) -> None:
    with RankProcesses(["train", "--epochs", "many"], folders=[tmp_path] * 2) as ranks:
        first, second = ranks.processes
        first.join(LIMIT)
        second.terminate()  # as torchrun does when one ended
        ends = ranks.ended()
    assert ends[0].status == 2
    assert ends[1].status in (1, -signal.SIGTERM)
    message = "Error: --epochs takes a whole number of at least 1; found 'many'"
    assert [message in end.err for end in ends] == [True, False]


@pytest.mark.parametrize("command", ["evaluate", "select"])
def test_a_command_that_uses_every_core_by_itself_is_refused_as_ranks(command: str, tmp_path: Path) -> None:
    for end in run_ranks([command], folders=[tmp_path] * 2):
        assert end.status == 1
        assert end.err == (
            f"Error: {command} runs in one process, which uses every core, and was started as one of 2 (WORLD_SIZE); "
            "start it without torchrun\n"
        )
