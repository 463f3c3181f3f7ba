"""As much load as a local server can take, by wrk, which is written in C and leaves the cores to that server."""

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
    """What wrk saw: `refused` answers had a status of 400 or above, `failed` ones never came. Times are in seconds."""

    requests: int
    seconds: float
    refused: int
    failed: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Answers per second."""
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
    """Send requests for some seconds, as fast as a server answers; the requests' files are written to `folder`.

    Raises `click.ClickException` when wrk is not installed, when an answer did not come, and, unless the server
    `may_refuse`, when one was an error: a quick refusal must not look like a quick answer.
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
