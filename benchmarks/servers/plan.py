"""What is measured, and how servers take turns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.http_load import Burst, burst
from benchmarks.measure import interleaved
from benchmarks.servers import Running, Server, running
from benchmarks.servers.asking import Candidate
from subspace_serve.bundle import Bundle
from subspace_serve.client.wire import HttpRequest

CONNECTIONS = 16


@dataclass(frozen=True)
class Plan:
    """What is measured, for how many rounds, and for how many seconds each; `folder` is for temporary files."""

    bundle: Path
    folder: Path
    rounds: int
    seconds: int
    requests: int

    @cached_property
    def pixels(self) -> np.ndarray:
        """Random images (64, height, width, channels), uint8."""
        shape = Bundle.open(self.bundle).manifest.input.shape
        return np.random.default_rng(0).integers(0, 256, (64, *shape), dtype=np.uint8)

    @property
    def image(self) -> np.ndarray:
        """One image (1, height, width, channels)."""
        return self.pixels[:1]

    @cached_property
    def model(self) -> str:
        """The point that answers where none is named."""
        return Bundle.open(self.bundle).default

    @contextlib.contextmanager
    def started(self, **servers: Server) -> Iterator[dict[str, Running]]:
        """Start servers by name, and suspend them; `awake` gives one its turn."""
        with contextlib.ExitStack() as stack:
            started = {name: stack.enter_context(running(server, self.bundle)) for name, server in servers.items()}
            for server in started.values():
                server.suspend()
            yield started

    def bursts(self, candidates: Mapping[str, Candidate]) -> dict[str, list[Burst]]:
        """Check each candidate's answer, then return their bursts, one per round; they take turns."""
        seen: dict[str, list[Burst]] = {name: [] for name in candidates}

        def turn(name: str) -> None:
            with awake(candidates[name].server) as server:
                seen[name].append(self.burst(server, candidates[name].request))

        for candidate in candidates.values():
            with awake(candidate.server):
                candidate.check(self.bundle, self.image)
        turns = {name: lambda name=name: turn(name) for name in candidates}
        interleaved(turns, rounds=self.rounds, warm_up=1)
        return {name: bursts[1:] for name, bursts in seen.items()}

    def burst(self, server: Running, *requests: HttpRequest, connections: int = CONNECTIONS, **options: Any) -> Burst:
        """Send requests to one server for `seconds`, as fast as it answers."""
        return burst(server.port, requests, self.folder, seconds=self.seconds, connections=connections, **options)


@contextlib.contextmanager
def awake(server: Running) -> Iterator[Running]:
    """Let a suspended server run for a turn."""
    server.resume()
    try:
        yield server
    finally:
        server.suspend()
