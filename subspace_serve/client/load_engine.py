"""Sends requests when they are due, answered or not, and takes the time of each: HTTP/1.1 on asyncio, with little else.

General clients cost the generator several times as much for a request, which it would then add to what it measures.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subspace_serve.client.load_connection import Connection, short_reason

_SWEEP_SECONDS = 0.02
_LEAD_SECONDS = 0.05  # from the start of the clock to the first request, so that starting is not measured

ERROR = -1
"""What stands for the status of a request that was not answered."""


@dataclass(frozen=True)
class Target:
    """Where requests go: an address of the host, and, with TLS, the name that its certificate must have."""

    address: str
    port: int
    tls: ssl.SSLContext | None = None
    name: str | None = None


@dataclass(frozen=True)
class Log:
    """What became of each request; times are seconds on the run's clock.

    `due` is when it was to be sent, `late` by how much later the generator came to it, `done` when its answer was
    complete; `statuses` are HTTP's, or `ERROR`, and then `errors` says what happened, by the request's number.
    `waited` counts requests that waited because all connections were in use.
    """

    due: np.ndarray
    late: np.ndarray
    done: np.ndarray
    statuses: np.ndarray
    errors: dict[int, str]
    waited: int


def send_all(target: Target, wires: Sequence[bytes], due: np.ndarray, *, connections: int, timeout: float) -> Log:
    """Send a request at each of the ascending times `due`, taking `wires` in turn, and return what became of them.

    At most `connections` are open at once; a request for which none is free waits. One that is not answered within
    `timeout` seconds from when it was due has failed.
    """
    loop = asyncio.SelectorEventLoop(_precise_selector())
    try:
        return loop.run_until_complete(_Run(loop, target, wires, due, connections, timeout).log())
    finally:
        if left := asyncio.all_tasks(loop):  # after an interrupt
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left))
        loop.close()


def _precise_selector() -> selectors.BaseSelector:
    """Return a selector whose timeouts are exact: those of epoll are whole milliseconds, about an answer's own time."""
    if not hasattr(selectors, "EpollSelector"):
        return selectors.SelectSelector()

    class PreciseSelector(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)

    return PreciseSelector()


class _Run:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        target: Target,
        wires: Sequence[bytes],
        due: np.ndarray,
        connections: int,
        timeout: float,
    ) -> None:
        self._loop = loop
        self._target = target
        self._wires = wires
        self._due: list[float] = due.tolist()
        self._late = [0.0] * len(due)
        self._done = [0.0] * len(due)
        self._statuses = [0] * len(due)  # 0 while there is no answer
        self._errors: dict[int, str] = {}
        self._left = len(due)
        self._next = 0  # the first that has not been due yet
        self._oldest = 0  # before it, all are over
        self._idle: list[Connection] = []
        self._waiting: deque[int] = deque()
        self._waited = 0
        self._asking: dict[int, Connection] = {}
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._free = connections
        self._timeout = timeout
        self._start = loop.time() + _LEAD_SECONDS
        self._over = loop.create_future()

    async def log(self) -> Log:
        """Do it all."""
        if self._left:
            self._loop.call_at(self._start + self._due[0], self._arrive)
            self._sweep()
            try:
                await self._over
            finally:
                for connection in [*self._idle, *self._asking.values()]:
                    connection.abort()
                await asyncio.sleep(0)  # in which they are really closed
        return Log(
            due=np.array(self._due),
            late=np.array(self._late),
            done=np.array(self._done),
            statuses=np.array(self._statuses, dtype=np.int64),
            errors=self._errors,
            waited=self._waited,
        )

    def _arrive(self) -> None:
        """Send what has become due."""
        now = self._loop.time() - self._start
        while self._next < len(self._due) and self._due[self._next] <= now:
            self._late[self._next] = now - self._due[self._next]
            self._begin(self._next)
            self._next += 1
        if self._next < len(self._due):
            self._loop.call_at(self._start + self._due[self._next], self._arrive)

    def _begin(self, number: int) -> None:
        # The one that was used last: the others grow old, and the server may close them.
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                self._ask(connection, number)
                return
            self._free += 1
        if self._free:
            self._free -= 1
            self._opening[number] = self._loop.create_task(self._ask_on_new(number))
        else:
            self._waiting.append(number)
            self._waited += 1

    async def _ask_on_new(self, number: int) -> None:
        target = self._target
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._answered, self._broken),
                target.address,
                target.port,
                ssl=target.tls,
                server_hostname=target.name,
            )
        except OSError as error:
            self._free += 1
            self._finish(number, ERROR, f"connection failed: {short_reason(error)}")
            self._go_on()
            return
        finally:
            self._opening.pop(number, None)
        self._ask(connection, number)

    def _ask(self, connection: Connection, number: int) -> None:
        self._asking[number] = connection
        connection.ask(number, self._wires[number % len(self._wires)])

    def _answered(self, connection: Connection, number: int, status: int) -> None:
        del self._asking[number]
        self._finish(number, status)
        if connection.open:
            self._idle.append(connection)
        else:
            self._free += 1
        self._go_on()

    def _broken(self, connection: Connection, number: int, reason: str) -> None:
        """A connection was lost while it was asked."""
        del self._asking[number]
        self._free += 1
        if connection.stale and not self._over.done():
            # The server closed what had been idle at the moment when it was used; any client would ask again.
            self._begin(number)
            return
        self._finish(number, ERROR, f"connection lost: {reason}")
        self._go_on()

    def _go_on(self) -> None:
        """Send what has waited for a connection."""
        while self._waiting and (self._idle or self._free):
            number = self._waiting.popleft()
            if not self._statuses[number]:
                self._begin(number)

    def _sweep(self) -> None:
        """Give up what is not answered in time, oldest first."""
        before = self._loop.time() - self._start - self._timeout
        while self._oldest < self._next and (self._statuses[self._oldest] or self._due[self._oldest] <= before):
            if not self._statuses[self._oldest]:
                self._give_up(self._oldest)
            self._oldest += 1
        if not self._over.done():
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _give_up(self, number: int) -> None:
        self._finish(number, ERROR, f"no answer within {self._timeout:g} s")
        if connection := self._asking.pop(number, None):
            connection.abort()
            self._free += 1
        elif task := self._opening.pop(number, None):
            task.cancel()
            self._free += 1
        self._go_on()

    def _finish(self, number: int, status: int, error: str | None = None) -> None:
        self._statuses[number] = status
        self._done[number] = self._loop.time() - self._start
        if error is not None:
            self._errors[number] = error
        self._left -= 1
        if not self._left and not self._over.done():
            self._over.set_result(None)
