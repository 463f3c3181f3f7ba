"""As much load as a server on this machine takes, by wrk: in C, it leaves the cores to the server that is measured."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from subspace_serve.bench.load import encoded
from subspace_serve.client.wire import HttpRequest

_REPLAY = Path(__file__).with_name("replay.lua")
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Burst:
    """What wrk saw: `refused` answers had a status of 400 or above, `failed` ones did not come. Seconds throughout."""

    requests: int
    seconds: float
    refused: int
    failed: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def burst(
    port: int,
    requests: Sequence[HttpRequest],
    folder: Path,
    *,
    seconds: int,
    connections: int,
    may_refuse: bool = False,
) -> Burst:
    """Ask a server for some seconds as fast as it answers; `folder` takes the requests' files.

    Raises `click.ClickException` when wrk is not there, when answers did not come, and, unless the server
    `may_refuse`, when one was an error: what is quick to refuse must not look like a quick answer.
    """
    if (wrk := shutil.which("wrk")) is None:
        raise click.ClickException("the load generator wrk is not installed; Debian's package is called wrk")
    files = []
    for index, request in enumerate(requests):
        file = folder / f"{port}-{index}.http"
        file.write_bytes(encoded(request, f"http://127.0.0.1:{port}"))
        files.append(str(file))
    options = [
        "--threads=1",
        f"--connections={connections}",
        f"--duration={seconds}",
        f"--timeout={_TIMEOUT_SECONDS:g}",
    ]
    command = [wrk, *options, f"--script={_REPLAY}", f"http://127.0.0.1:{port}/", "--", *files]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result = Burst(**json.loads(printed.splitlines()[-1]))
    if result.failed or (result.refused and not may_refuse):
        paths = ", ".join(request.path for request in requests)
        raise click.ClickException(
            f"of {result.requests} requests to {paths}, {result.refused} were refused and {result.failed} failed"
        )
    return result
