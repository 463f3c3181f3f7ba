"""Threads that run functions in order of arrival, without the cost of futures, which nothing here would use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Threads:
    """Runs functions, which must not raise, on `count` threads in the order in which they arrive."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._functions: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        for index in range(count):
            # Daemon threads: a graph that never ends must not keep the process alive.
            threading.Thread(target=self._work, name=f"inference-{index}", daemon=True).start()

    def run(self, function: Callable[[], None]) -> None:
        """Run a function as soon as a thread is free."""
        self._functions.put(function)

    def close(self) -> None:
        """End the threads once they have run what was handed over before this call."""
        for _ in range(self._count):
            self._functions.put(None)

    def _work(self) -> None:
        while (function := self._functions.get()) is not None:
            function()
