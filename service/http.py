"""HTTP connections with limits that uvicorn lacks: on the size of a request's head, and on the time it may take."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 10.0

_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET_SECONDS = 0.05
_REFUSAL = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose next request line and headers are too long (431) or take too long to arrive (408).

    A connection that sends nothing at all is closed without an answer, as an idle one is. No other protocol is offered,
    and the header Upgrade is ignored, as a server may do (RFC 9110, section 7.8); Java's client sends it with every
    request to an http address.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._heads = 0
        self._head_bytes = 0
        self._in_head = True
        self._head_without_upgrade: bytes | None = None
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request's head."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of an incomplete head; data in which a head was completed is not counted."""
        heads, in_head = self._heads, self._in_head
        self._unset_keepalive_if_required()
        self._feed(data)
        # Data that completes a body is not part of a head, although the next head is awaited after it.
        if in_head and self._in_head and heads == self._heads:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large", b"the headers are over the limit of 65536 bytes")

    def eof_received(self) -> bool:  # type: ignore[override]
        """Still answer a client that sent complete requests and then closed only its sending side, as `nc -N` does.

        A client that is gone looks the same until something is sent to it. So an interim response is sent, which every
        HTTP/1.1 client must skip; the host of a client that is gone answers it with a reset.
        """
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        if self.scheme == "https" or cycle.scope["http_version"] == "1.0":  # neither can be tested this way
            return False
        cycle.keep_alive = False
        if not cycle.response_started and not self.pipeline:
            self.transport.write(_INTERIM)
        self._look_for_reset(cycle)
        return True

    def _look_for_reset(self, cycle: RequestResponseCycle) -> None:
        """Abort the connection once it has been reset, which goes unnoticed as long as nothing is written to it."""
        if cycle.response_complete or self.transport.is_closing():
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        else:
            self.loop.call_later(_RESET_SECONDS, self._look_for_reset, cycle)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The parser takes what follows for another protocol, so a new one reads the same head without the header.
            head, self._head_without_upgrade = self._head_without_upgrade, None
            if head is not None:
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
                self._feed(head + data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def on_message_begin(self) -> None:
        """Start the timer for a head, unless it is running."""
        super().on_message_begin()
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse_slow)

    def on_headers_complete(self) -> None:
        """Stop the timer: the head has arrived."""
        method = self.parser.get_method()
        if self.parser.should_upgrade() and method != b"CONNECT":
            fields = [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
            line = b"%s %s HTTP/1.1\r\n" % (method, self.url)
            self._head_without_upgrade = b"".join([line, *fields, b"\r\n"])
            return
        self._heads += 1
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect another head."""
        if self._head_without_upgrade is not None:
            return
        self._in_head = True
        super().on_message_complete()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse_slow(self) -> None:
        self._head_timer = None
        if self._head_bytes:
            self._refuse(b"408 Request Timeout", b"the headers did not arrive in time")
        else:
            self.transport.close()

    def _refuse(self, status: bytes, message: bytes) -> None:
        body = b'{"error":"%s"}' % message
        if not self.transport.is_closing():
            self.transport.write(_REFUSAL % (status, len(body), body))
            self.transport.close()
