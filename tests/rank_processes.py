"""Real ranks for the tests: processes over gloo on 127.0.0.1, each bounded in time, none left behind.

They are forked from a process that has loaded torch and made the network's graph, since every rank's own start would
take seconds. `torchrun` of the tests starts true ones.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.distributed import TCPStore

ROOT = Path(__file__).parent.parent
LIMIT = 300.0
"""Seconds after which processes are killed and the test fails."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, and what it printed."""

    status: int | None
    out: str
    err: str


@functools.cache
def fork_server() -> multiprocessing.context.ForkServerContext:
    """Return where ranks are forked: with the module `rank_start`, which the server finds beside this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rank_start"])
    with _environment({"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1"}):
        multiprocessing.forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]):
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class RankProcesses:
    """The ranks of one program, as torchrun would start them, but each with its own output and exit status."""

    def __init__(
        self,
        arguments: Sequence[str],
        world_size: int = 2,
        *,
        script: str | None = None,
        folders: Sequence[Path] | None = None,
        absent: Sequence[int] = (),
    ) -> None:
        """Start the command line, or a Python script, as every rank but those that are absent.

        Args:
            arguments: of the command line or the script.
            world_size: how many ranks there are.
            script: its text; None for the command line.
            folders: where each rank is started; the project's for all of them when None.
            absent: ranks that never come.
        """
        # As torchrun's, it outlives every rank.
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        shared = {
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self._store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "GLOO_SOCKET_IFNAME": "lo",
            "SUBSPACE_SERVE_RANKS_TIMEOUT": "60",
        }
        self._outputs = tempfile.TemporaryDirectory()
        self._output_files = []
        self.processes = []
        for rank in (rank for rank in range(world_size) if rank not in absent):
            files = [Path(self._outputs.name) / f"{rank}.{name}" for name in ("out", "err")]
            variables = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            process = fork_server().Process(
                target=_run, args=(list(arguments), script, variables, folders[rank] if folders else ROOT, files)
            )
            process.start()
            self.processes.append(process)
            self._output_files.append(files)

    def __enter__(self) -> RankProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        self._outputs.cleanup()

    def ended(self) -> list[Ended]:
        """Wait for all of them."""
        deadline = time.monotonic() + LIMIT
        for process in self.processes:
            process.join(max(0.1, deadline - time.monotonic()))
            assert process.exitcode is not None, f"a rank has not ended within {LIMIT:g} s"
        return [
            Ended(process.exitcode, *(file.read_text() if file.exists() else "" for file in files))
            for process, files in zip(self.processes, self._output_files, strict=True)
        ]


def _run(
    arguments: list[str], script: str | None, variables: dict[str, str], folder: Path, outputs: Sequence[Path]
) -> None:
    """Become a rank: this process is a fork of the server."""
    for descriptor, output in zip((1, 2), outputs, strict=True):
        with output.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ.update(variables)
    os.chdir(folder)
    sys.argv = ["rank", *arguments]
    if script is None:
        runpy.run_module("subspace_serve", run_name="__main__")
    else:
        exec(compile(script, "rank", "exec"), {"__name__": "__main__"})


def run_ranks(arguments: Sequence[str], world_size: int = 2, **how) -> list[Ended]:
    """Run the command line as ranks to its end."""
    with RankProcesses(arguments, world_size, **how) as ranks:
        return ranks.ended()


def run_script(script: str, world_size: int = 2, *, arguments: Sequence[str] = (), **how) -> list[Ended]:
    """Run a Python script as ranks to its end."""
    return run_ranks(arguments, world_size, script=script, **how)
