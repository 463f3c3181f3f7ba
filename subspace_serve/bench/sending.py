"""Sends requests when they are due, answered or not, and times each: HTTP/1.1 on asyncio, with little else.

A general-purpose client would cost several times as much per request, and add that to what is measured.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import selectors
import ssl
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import httptools
import numpy as np

_SWEEP_SECONDS = 0.02
_LEAD_SECONDS = 0.05  # from the start of the clock to the first request, so that starting is not measured

ERROR = -1
"""The status recorded for a request that was not answered."""


class Log:
    """What became of requests that were `due` at these times; times are seconds on the run's clock.

    `late` is how long after a request was due the generator got to it, and `done` when its answer was complete.
    `statuses` are HTTP's, or `ERROR`, and then `errors` says what happened, by the request's number. `waited` counts
    requests that waited because all connections were in use.
    """

    def __init__(self, due: np.ndarray) -> None:
        self.due = due
        self.late = np.zeros(len(due))
        self.done = np.zeros(len(due))
        self.statuses = np.full(len(due), ERROR)
        self.errors: dict[int, str] = {}
        self.waited = 0


def send_all(
    address: Mapping[str, Any], wires: Iterator[bytes], due: np.ndarray, *, connections: int, timeout: float
) -> Log:
    """Send the next of `wires` at each of the ascending times `due`, and return what became of them.

    `address` holds arguments of asyncio's `create_connection`. At most `connections` are open at once; a request for
    which none is free waits. One that is not answered within `timeout` seconds of when it was due has failed.
    """
    loop = asyncio.SelectorEventLoop(_precise_selector())
    run = _Run(loop, address, wires, Log(due), connections, timeout)
    try:
        loop.run_until_complete(run.send_all())
    finally:
        if left := asyncio.all_tasks(loop):  # after an interrupt
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
    return run.log


def _precise_selector() -> selectors.BaseSelector:
    """Return a selector with exact timeouts: epoll's are whole milliseconds, which an answer may take altogether."""
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
        address: Mapping[str, Any],
        wires: Iterator[bytes],
        log: Log,
        connections: int,
        timeout: float,
    ) -> None:
        self.log = log
        self._loop = loop
        self._address = address
        self._wires = wires
        self._timeout = timeout
        self._free = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []
        self._due: list[float] = log.due.tolist()
        self._next = 0  # the first that has not been due yet
        self._asked: deque[tuple[asyncio.Task[None], float]] = deque()  # with when they were due
        self._start = loop.time() + _LEAD_SECONDS

    async def send_all(self) -> None:
        if self._due:
            self._loop.call_at(self._start + self._due[0], self._arrive)
        while self._next < len(self._due) or self._asked:
            # Oldest first; a request that is not answered in time is given up.
            before = self._loop.time() - self._start - self._timeout
            while self._asked and (self._asked[0][0].done() or self._asked[0][1] <= before):
                self._asked.popleft()[0].cancel()
            await asyncio.sleep(_SWEEP_SECONDS)
        for number in np.flatnonzero(self.log.statuses == ERROR).tolist():
            self.log.errors.setdefault(number, f"no answer within {self._timeout:g} s")
        for connection in self._idle:
            connection.abort()
        await asyncio.sleep(0)  # the event loop closes them only now

    def _arrive(self) -> None:
        """Send the requests that have become due."""
        now = self._loop.time() - self._start
        while self._next < len(self._due) and (due := self._due[self._next]) <= now:
            self.log.late[self._next] = now - due
            self._asked.append((self._loop.create_task(self._send(self._next)), due))
            self._next += 1
        if self._next < len(self._due):
            self._loop.call_at(self._start + self._due[self._next], self._arrive)

    async def _send(self, number: int) -> None:
        """Send one request and log what became of it."""
        try:
            self.log.waited += self._free.locked()
            async with self._free:
                self.log.statuses[number], done = await self._ask(next(self._wires))
            self.log.done[number] = done - self._start
        except ConnectionError as error:
            self.log.errors[number] = str(error)

    async def _ask(self, wire: bytes) -> tuple[int, float]:
        """Return an answer's status and when it was complete. Raises `ConnectionError` when there is no answer."""
        while True:
            connection = self._idle_connection() or await self._connected()
            try:
                answer = await connection.ask(wire)
            except ConnectionError:
                # The server closed an idle connection just as it was used; any client would ask again.
                if not connection.stale:
                    raise
            except asyncio.CancelledError:
                connection.abort()
                raise
            else:
                if connection.open:
                    self._idle.append(connection)
                return answer

    def _idle_connection(self) -> _Connection | None:
        # The most recently used first: the server may be about to close the older ones.
        while self._idle:
            if (connection := self._idle.pop()).open:
                return connection
        return None

    async def _connected(self) -> _Connection:
        try:
            return (await self._loop.create_connection(lambda: _Connection(self._loop), **self._address))[1]
        except OSError as error:
            raise ConnectionError(f"connection failed: {_short_reason(error)}") from None


class _Connection(asyncio.Protocol):
    """One keep-alive connection, which carries one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.open = True
        self._loop = loop
        self._uses = 0
        self._heard = False
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[tuple[int, float]] = loop.create_future()

    @property
    def stale(self) -> bool:
        """Whether the request in progress is not the first here, and nothing has come back for it."""
        return self._uses > 1 and not self._heard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, wire: bytes) -> asyncio.Future[tuple[int, float]]:
        """Send a request; the future gives its answer's status and time, or `ConnectionError`."""
        self._uses += 1
        self._heard = False
        self._answer = self._loop.create_future()
        self._transport.write(wire)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP ({error})")
            self.abort()

    def on_message_complete(self) -> None:
        """The parser has seen the end of an answer."""
        if not self._parser.should_keep_alive():
            self.open = False
            self._transport.close()
        if not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), self._loop.time()))

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(_short_reason(error) if error else "closed by the server")

    def _fail(self, reason: str) -> None:
        self.open = False
        if self._uses and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"connection lost: {reason}"))

    def abort(self) -> None:
        """Close the connection at once."""
        self.open = False
        self._transport.abort()


def _short_reason(error: BaseException) -> str:
    """Return the operating system's text, or the kind of error: few different texts, so that they can be counted."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower()
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno).lower()
    return type(error).__name__
