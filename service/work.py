"""Bounded work off the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


class OverloadedError(Exception):
    """The queue is full."""


class DeadlineError(Exception):
    """The deadline passed before the work was done."""


class WorkQueue:
    """Runs functions on `concurrency` threads; at most `queue` more may wait.

    Work whose caller gave up while it waited never starts; work that was running already counts against the bound
    until it ends, so that a flood of deadlines cannot pile up threads.
    """

    def __init__(self, concurrency: int, queue: int) -> None:
        self._limit = concurrency + queue
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="inference")
        self._held: set[Future[Any]] = set()

    async def run(self, function: Callable[[], Result], deadline: float) -> Result:
        """Run a function and return what it returns. `deadline` is a time of `time.monotonic`.

        Raises `OverloadedError` at once when the queue is full, `DeadlineError` when the deadline passes first.
        """
        if len(self._held) >= self._limit:
            raise OverloadedError
        loop = asyncio.get_running_loop()
        future = self._pool.submit(function)
        self._held.add(future)
        # On the event loop, which alone touches the set.
        future.add_done_callback(lambda done: _call_soon(loop, self._held.discard, done))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise DeadlineError from None

    def close(self) -> None:
        """Drop what waits, and let what runs end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], argument: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, argument)
