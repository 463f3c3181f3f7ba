"""Ranks: what they tell each other, how they end, and evaluations shared over them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rank_processes import COMMAND, LIMIT, ROOT, run_ranks, run_script

from subspace_serve.data import load_data
from subspace_serve.distributed.ranks import Ranks
from subspace_serve.distributed.sharing import Homes
from subspace_serve.errors import RankError
from subspace_serve.measure.networks import place
from subspace_serve.select.candidates import candidates_of
from subspace_serve.space.geometry import Geometry


def test_one_process_gets_back_what_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    ranks = Ranks.current()
    assert ranks == Ranks(0, 1, 0)
    assert ranks.is_first
    assert ranks.speaks()
    assert ranks.share([1, 2, 3]) == ranks.gather([1, 2, 3]) == [1, 2, 3]
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
from subspace_serve.distributed.ranks import Ranks

with Ranks.current() as ranks:
    assert ranks == Ranks.current()
    letters = list("abcdefg")
    assert ranks.share(letters) == [list("adg"), list("be"), list("cf")][ranks.rank]
    assert ranks.gather([letter.upper() for letter in ranks.share(letters)]) == list("ABCDEFG")
    assert ranks.gather(ranks.share(["only"])) == ["only"]
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


def test_three_ranks_share_gather_sum_and_compare() -> None:
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
from subspace_serve.distributed.ranks import Ranks

ranks = Ranks.current()
ranks.everyones("here")
if ranks.rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
try:
    ranks.everyones("still here")
except RankError as error:
    sys.exit(f"told: {error}")
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
    script = (
        "from subspace_serve.distributed.ranks import Ranks\n"
        "try:\n    Ranks.current(timeout=2)\nexcept Exception as e: print(e)"
    )
    (end,) = run_script(script, 2, absent=[1])
    assert end.out.startswith("rank 0 of 2 found no group within 2 s (")
    assert "--rdzv-endpoint" in end.out


def test_works_that_share_a_network_have_one_home_and_the_load_is_even() -> None:
    candidates = candidates_of(Geometry("line", 2), "all", 11)
    works = [[place(alpha) for alpha in candidate.members] for candidate in candidates]
    homes = Homes(2)
    ranks = homes.settle(works)
    made = [
        {key for key_rank, keys in zip(ranks, works, strict=True) if key_rank == rank for key in keys}
        for rank in (0, 1)
    ]
    assert not made[0] & made[1]
    assert sorted(map(len, made)) == [5, 6]
    assert homes.settle(works[3:7]) == ranks[3:7]
    assert homes.settle([["new"], ["newer"]]) == [0, 1]


def test_points_alone_are_spread_and_late_unions_go_where_most_is() -> None:
    homes = Homes(3)
    assert homes.settle([["a"], ["b"], ["c"], ["d"]]) == [0, 1, 2, 0]
    assert homes.settle([["a", "d", "b"], ["e"]]) == [0, 1]
    assert Homes(1).settle([["a"], ["b", "c"]]) == [0, 0]


def torchrun(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line under torchrun on two processes."""
    launcher = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "2"]
    return _run([*launcher, "-m", "subspace_serve", *arguments], cwd)


def one_process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return _run([*COMMAND, *arguments], cwd)


def _run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LIMIT)


def test_an_evaluation_under_torchrun_is_that_of_one_process_to_the_bit(line_run: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(line_run), "--points", "5", "--corruption", "contrast", "--json"]
    alone = one_process(*arguments, "alone.json", cwd=tmp_path)
    shared = torchrun(*arguments, "shared.json", "--plot", "shared.png", cwd=tmp_path)
    assert shared.returncode == 0, shared.stderr
    assert (tmp_path / "shared.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
    document = json.loads((tmp_path / "shared.json").read_text())
    assert document["endpoints_ensemble"]["total_variation"] > 0
    assert len(document["corruptions"][0]["points"]) == 5
    # Said once, by the first rank; which made some of the networks, and the second the others.
    assert shared.stdout.replace("shared.json", "alone.json").startswith(alone.stdout)
    made = [line for line in shared.stderr.splitlines() if line.startswith("  alpha ")]
    assert 0 < len(made) < 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "alone.json", "shared-corruptions.png", "shared.json", "shared.png",
    ]  # fmt: skip


def test_a_selection_over_ranks_is_that_of_one_process_to_the_bit(line_run: Path, tmp_path: Path) -> None:
    for name in ("alone", "shared"):
        shutil.copytree(line_run, tmp_path / name)
    arguments = ["--among", "all", "--points", "5", "--refine", "1", "--greedy", "--json", "selection.json"]
    assert one_process("select", "alone", *arguments, cwd=tmp_path).returncode == 0
    ends = run_ranks([*COMMAND, "select", "shared", *arguments], folders=[tmp_path] * 2)
    assert [end.status for end in ends] == [0, 0], ends
    assert ends[1].out == ends[1].err == ""
    files = [(tmp_path / name / "selections.json").read_bytes() for name in ("alone", "shared")]
    assert files[0] == files[1]
    assert len(json.loads((tmp_path / "selection.json").read_text())["best"]["grid"]) > 5


def test_an_error_that_every_rank_has_is_said_once(tmp_path: Path) -> None:
    for arguments, status, message in (
        (["evaluate", "nothing"], 1, "Error: no checkpoint at nothing/subspace.safetensors"),
        (["evaluate", "--points", "many"], 2, "Error: --points takes a whole number of at least 2; found 'many'"),
    ):
        shared = torchrun(*arguments, cwd=tmp_path)
        assert shared.returncode == 1
        assert f"exitcode  : {status}" in shared.stderr
        assert shared.stderr.count(message) == 1, shared.stderr


def test_an_error_of_one_rank_ends_the_others_and_is_said_once(tmp_path: Path) -> None:
    from trainer.config import TrainingConfig
    from trainer.training import train

    folders = [tmp_path / "first", tmp_path / "second"]
    digits = load_data("digits").train
    for index, folder in enumerate(folders):
        folder.mkdir()
        pixels = digits.take(np.arange(300))[0]
        pixels[: 300 * index] = 0
        np.savez(folder / "images.npz", images=pixels, labels=digits.labels[:300])
    run = tmp_path / "run"
    data = str(folders[0] / "images.npz")
    train(TrainingConfig(data=data, architecture="cresnet8-4", epochs=1), run)
    ends = run_ranks([*COMMAND, "evaluate", str(run), "--data", "images.npz:test", "--json", "-"], folders=folders)
    assert [end.status for end in ends] == [1, 1], ends
    messages = ends[0].err + ends[1].err
    assert messages.count("Error:") == 1
    assert "rank 1 has other labelled images (their fingerprint) than rank 0" in messages
    assert "Traceback" not in messages
    assert ends[0].out == ends[1].out == ""
