"""Receives messages, with limits on how many are on their way at once and for how long."""

from __future__ import annotations

import asyncio
import sys

import grpc

from service.grpc.refusing import RefusedCall


class Arrivals:
    """The calls whose messages are being received: `limit` at most, each for `deadline` seconds.

    grpcio does not say whether any of a message is there, so calls that send nothing look like those that do. When all
    places are taken, the call that has waited longest, and for `patience` seconds, therefore makes room.
    """

    def __init__(self, limit: int, deadline: float, patience: float = 0.0) -> None:
        self._limit = limit
        self._deadline = deadline
        self._patience = patience
        self._reading: dict[asyncio.Task[object], float] = {}  # since when, the longest first

    async def only(self, context: grpc.aio.ServicerContext) -> bytes:
        """Return the one message of a call. Raises `RefusedCall`, also where there is none."""
        message = await self.next(context)
        if message is None:
            # Nearly always grpcio has refused one over the limit, which it does not tell; no client omits it.
            raise RefusedCall(413, "the call has no message; send one", "INVALID_ARGUMENT")
        return message

    async def next(self, context: grpc.aio.ServicerContext) -> bytes | None:
        """Return a stream's next message, None at its end. Raises `RefusedCall`."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._make_room(loop.time())
        self._reading[task] = loop.time()
        timer = loop.call_later(self._deadline, self._expel, task)
        try:
            message = await context.read()
        except asyncio.CancelledError:
            if task in self._reading:  # not expelled, but given up by the client
                raise
            if sys.version_info >= (3, 11):
                task.uncancel()
            raise RefusedCall(408, "the message did not arrive in time") from None
        finally:
            timer.cancel()
            self._reading.pop(task, None)
        return None if message is grpc.aio.EOF else bytes(message)

    def _make_room(self, now: float) -> None:
        if len(self._reading) < self._limit:
            return
        longest, since = next(iter(self._reading.items()))
        if now - since < self._patience:
            raise RefusedCall(429, "too many messages are being received; try again later")
        self._expel(longest)

    def _expel(self, task: asyncio.Task[object]) -> None:
        # Its time may be up in the same turn of the event loop as it makes room.
        if self._reading.pop(task, None) is not None:
            task.cancel()
