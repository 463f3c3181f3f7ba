"""A connection of the load generator."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Callable

import httptools


class Connection(asyncio.Protocol):
    """One connection, kept open, on which one request at a time is asked."""

    def __init__(
        self,
        answered: Callable[[Connection, int, int], None],
        broken: Callable[[Connection, int, str], None],
    ) -> None:
        self.open = True
        self._answered = answered
        self._broken = broken
        self._number: int | None = None
        self._uses = 0
        self._heard = False
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None

    @property
    def stale(self) -> bool:
        """Whether the request in progress is not the first here, and nothing has come back for it."""
        return self._uses > 1 and not self._heard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, number: int, wire: bytes) -> None:
        """Send a request; `answered` or `broken` is called once."""
        assert self._transport is not None
        self._number = number
        self._uses += 1
        self._heard = False
        self._transport.write(wire)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP ({error})")
            self.abort()

    def on_message_complete(self) -> None:
        """The parser has seen the end of an answer."""
        number, self._number = self._number, None
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.open = False
            self.close()
        if number is not None:
            self._answered(self, number, status)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        self._fail(short_reason(error) if error else "closed by the server")

    def _fail(self, reason: str) -> None:
        number, self._number = self._number, None
        if number is not None:
            self._broken(self, number, reason)

    def abort(self) -> None:
        """Break it off."""
        self.open = False
        self._number = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close it when all has been sent."""
        if self._transport is not None:
            self._transport.close()


def short_reason(error: BaseException) -> str:
    """Return what the operating system says, or the kind of an error: few different texts, to be counted."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower()
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno).lower()
    return type(error).__name__
