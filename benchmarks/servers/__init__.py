"""The servers that are compared: how each is started, and stopped with all its processes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import httpx
import psutil

from benchmarks.servers.model import BUNDLE_VARIABLE

ROOT = Path(__file__).parent.parent.parent
_READY_SECONDS = 120.0
_END_SECONDS = 30.0


@dataclass(frozen=True)
class Server:
    """How a server is started: its command with `{port}` and `{bundle}`; `ready` is the path to wait for."""

    name: str
    command: Sequence[str]
    ready: str
    variables: Mapping[str, str] = field(default_factory=dict)


def command_line() -> list[str]:
    """Return the console script beside the interpreter, or an equivalent command if it is not installed."""
    script = Path(sys.executable).with_name("subspace-serve")
    return [str(script)] if script.exists() else [sys.executable, "-c", "from subspace_serve.cli import main; main()"]


def subspace_serve(*flags: str) -> Server:
    """Return the service of this project with one worker and one thread, and without a log line for each request."""
    pinned = ["--drain=0", "--workers=1", "--threads=1", "--device=cpu", "--no-access-log"]
    return Server("subspace_serve", [*command_line(), "serve", "{bundle}", "--port={port}", *pinned, *flags], "/readyz")


def bare_starlette() -> Server:
    """Return Starlette and ONNX Runtime with nothing else."""
    factory = "benchmarks.servers.bare_starlette:create_app"
    options = ["--factory", "--port={port}", "--workers=1", "--no-access-log", "--log-level=warning"]
    return Server("starlette", [sys.executable, "-m", "uvicorn", factory, *options], "/ready")


def plain_bentoml(threads: int = 1) -> Server:
    """Return a plain BentoML service whose methods run on `threads` threads."""
    target = "benchmarks.servers.plain_bentoml:PlainBentoml"
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host=127.0.0.1", "--port={port}"]
    return Server("bentoml", command, "/readyz", {"BENCHMARK_THREADS": str(threads)})


def lit_server() -> Server:
    """Return LitServe with one worker process."""
    return Server("litserve", [sys.executable, "-m", "benchmarks.servers.lit_server", "--port={port}"], "/health")


class Running:
    """A server that has been started."""

    def __init__(self, server: Server, process: psutil.Popen, port: int, started: float) -> None:
        self.server = server
        self.process = process
        self.port = port
        self.ready_seconds = 0.0
        self._started = started

    def client(self) -> httpx.Client:
        """Return a client of this server."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def processes(self) -> list[psutil.Process]:
        """Return the server's processes, beginning with the one that was started."""
        return [self.process, *self.process.children(recursive=True)]

    def worker(self) -> psutil.Process:
        """Return the process that answers: the largest one, since the others only supervise or track memory."""
        return max(self.processes(), key=lambda process: process.memory_info().rss)

    def suspend(self) -> None:
        """Suspend all processes: even without requests a server may poll, and would take time from the others."""
        # Parents first, and on resuming last, so that none ever waits for a suspended child.
        for process in self.processes():
            process.suspend()

    def resume(self) -> None:
        """Resume all processes."""
        for process in reversed(self.processes()):
            process.resume()

    def loop_and_parser(self) -> dict[str, str]:
        """Return the event loop and the HTTP parser that uvicorn chose, judging by the libraries that are loaded."""
        held = "\n".join(entry.path for process in self.processes() for entry in process.memory_maps())
        return {
            "loop": "uvloop" if "/uvloop/" in held else "asyncio",
            "parser": "httptools" if "/httptools/" in held else "h11",
        }

    def wait_until_ready(self, log: Path) -> None:
        """Return when the server answers on its readiness path. Raises `click.ClickException` if it does not."""
        with self.client() as client:
            while time.perf_counter() - self._started < _READY_SECONDS:
                if self.process.poll() is not None:
                    raise self._failure(f"ended with status {self.process.returncode} before it was ready", log)
                with contextlib.suppress(httpx.TransportError):
                    if client.get(self.server.ready).status_code == 200:
                        self.ready_seconds = time.perf_counter() - self._started
                        return
                time.sleep(0.02)
        raise self._failure(f"was not ready within {_READY_SECONDS:g} s", log)

    def _failure(self, what: str, log: Path) -> click.ClickException:
        return click.ClickException(f"{self.server.name} {what}:\n{log.read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def running(server: Server, bundle: Path) -> Iterator[Running]:
    """Start a server on a free port, wait until it is ready, and stop all its processes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        home, log = Path(folder), Path(folder) / "log"
        port = free_port()
        command = [part.format(port=port, bundle=bundle) for part in server.command]
        variables = {
            BUNDLE_VARIABLE: str(bundle),
            "BENTOML_HOME": str(home),
            "BENTOML_DO_NOT_TRACK": "true",
            **server.variables,
        }
        started = time.perf_counter()
        with log.open("wb") as output:
            process = psutil.Popen(
                command, cwd=ROOT, env=os.environ | variables, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            own = Running(server, process, port, started)
            own.wait_until_ready(log)
            yield own
        finally:
            _end(process)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _end(process: psutil.Popen) -> None:
    """Stop a server's processes, each by its own id."""
    processes = [process, *(process.children(recursive=True) if process.is_running() else [])]
    for each in reversed(processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.resume()
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=_END_SECONDS)
    for each in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(alive, timeout=_END_SECONDS)
