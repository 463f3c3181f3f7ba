"""The real command `serve` as a process: started, watched, killed."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import httpx
import psutil
from ports import free_port

_COMMAND = (sys.executable, "-c", "from subspace_serve.cli import main; main()", "serve")
_PATIENCE = 60  # seconds; a slow machine may take long, one that is stuck must not hold up the tests


class Server:
    """A server's processes, its log, a client, and plain requests to it."""

    def __init__(self, process: subprocess.Popen, port: int, folder: Path, tls: ssl.SSLContext | None) -> None:
        self.process, self.port, self._folder, self._tls = process, port, folder, tls
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=url, timeout=20, verify=tls or True)

    @property
    def log(self) -> str:
        """What it printed on standard error."""
        return (self._folder / "errors").read_text(errors="replace")

    @property
    def state(self) -> Path:
        """Its state folder."""
        (folder,) = (self._folder / "temporary").glob("subspace-serve-*")
        return folder

    def workers(self) -> list[psutil.Process]:
        """Return the workers that are alive."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                    if "spawn_main" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                        found.append(child)
        return found

    def memory(self) -> int:
        """Return the workers' resident bytes."""
        return sum(worker.memory_info().rss for worker in self.workers())

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Send one request on a connection of its own; return status and body. Raises `OSError`, `HTTPException`."""
        kind = functools.partial(HTTPSConnection, context=self._tls) if self._tls else HTTPConnection
        connection = kind("127.0.0.1", self.port, timeout=_PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers | {"connection": "close"})
            response = connection.getresponse()
            return response.status, response.read()

    def predict(self, images: list[Any], **options: Any) -> tuple[int, dict[str, Any]]:
        """Ask /predict; return status and document."""
        body = json.dumps({"images": images, **options}).encode()
        status, answer = self.request("POST", "/predict", body, **{"content-type": "application/json"})
        return status, json.loads(answer)

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        page = self.request("GET", "/metrics")[1].decode()
        return sum(float(value) for value in re.findall(rf"^subspace_serve_{name}(?:{{.*}})? (\S+)$", page, re.M))

    def is_ready(self) -> bool:
        """Whether the worker that is asked is ready."""
        with contextlib.suppress(OSError):
            return self.request("GET", "/readyz")[0] == 200
        return False

    def is_complete(self, workers: int) -> bool:
        """Whether so many workers have loaded the bundle, and all that are there have."""
        try:
            files = [file for file in (self.state / "workers").iterdir() if not file.suffix]
            loaded = {int(file.name) for file in files if file.read_text()}
        except (ValueError, FileNotFoundError):  # it has no state folder yet
            return False
        alive = {worker.pid for worker in self.workers()}
        return len(alive) == workers and alive <= loaded and self.is_ready()

    def until(self, condition: Callable[[], bool], seconds: float = _PATIENCE) -> None:
        """Wait until something holds, and fail when it does not come to that."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(httpx.TransportError):
                if condition():
                    return
            assert time.monotonic() < end, self.log[-4000:]
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    def ended(self, seconds: float = _PATIENCE) -> int:
        """Wait for its end and return the exit status."""
        return self.process.wait(timeout=seconds)

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.signal(signal.SIGTERM)
        return self.ended(30)


@contextlib.contextmanager
def serving(
    bundle: Path,
    folder: Path,
    *,
    command: Sequence[str] = _COMMAND,
    variables: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    **settings: Any,
) -> Iterator[Server]:
    """Yield a server that is ready; `settings` are flags, `tls` is how it is asked where they make it use TLS.

    All of its processes are gone afterwards.
    """
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    options = {"port": free_port(), "device": "cpu", "threads": 1, "drain": 0} | settings
    flags = [text for name, value in options.items() for text in ("--" + name.replace("_", "-"), str(value))]
    with open(folder / "errors", "w") as errors, open(folder / "output", "w") as output:
        process = subprocess.Popen(
            [*command, str(bundle), *flags],
            env={**os.environ, "TMPDIR": str(temporary), **(variables or {})},
            cwd=Path(__file__).parents[2],
            stdout=output,
            stderr=errors,
        )
    server = Server(process, options["port"], folder, tls)
    family: list[psutil.Process] = []
    try:
        server.until(lambda: process.poll() is not None or server.is_complete(options.get("workers", 1)))
        assert process.poll() is None, server.log
        family = psutil.Process(process.pid).children(recursive=True)
        yield server
    finally:
        server.client.close()
        with contextlib.suppress(psutil.NoSuchProcess):
            family += psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=20)
