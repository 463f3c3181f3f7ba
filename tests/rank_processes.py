"""Real ranks for the tests: processes over gloo on 127.0.0.1, each bounded in time, none left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ports import free_port

ROOT = Path(__file__).parent.parent
LIMIT = 300.0
"""Seconds after which processes are killed and the test fails."""

COMMAND = [sys.executable, "-m", "subspace_serve"]


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, and what it printed."""

    status: int
    out: str
    err: str


class RankProcesses:
    """The ranks of one command, as torchrun would start them, but each with its own output and exit status."""

    def __init__(
        self,
        command: Sequence[str],
        world_size: int = 2,
        *,
        folders: Sequence[Path] | None = None,
        absent: Sequence[int] = (),
        **environment: str,
    ) -> None:
        """Start `command` as every rank but those that are absent; each in its folder where there are some."""
        shared = os.environ | {
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "GLOO_SOCKET_IFNAME": "lo",
            "SUBSPACE_SERVE_RANKS_TIMEOUT": "60",
            **environment,
        }
        self.processes = [
            subprocess.Popen(
                command,
                env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                cwd=folders[rank] if folders else ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(world_size)
            if rank not in absent
        ]

    def __enter__(self) -> RankProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def ended(self) -> list[Ended]:
        """Wait for all of them."""
        deadline = time.monotonic() + LIMIT
        ends = []
        for process in self.processes:
            out, err = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
            ends.append(Ended(process.returncode, out, err))
        return ends


def run_ranks(command: Sequence[str], world_size: int = 2, **how) -> list[Ended]:
    """Run a command as ranks to its end."""
    with RankProcesses(command, world_size, **how) as ranks:
        return ranks.ended()


def run_script(script: str, world_size: int = 2, **how) -> list[Ended]:
    """Run a Python script as ranks to its end."""
    return run_ranks([sys.executable, "-c", script], world_size, **how)
