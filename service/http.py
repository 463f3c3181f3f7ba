"""HTTP connections with limits that uvicorn lacks: on the size and time of a request's head, and of what follows."""

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
_REST_SECONDS = 30.0  # for the rest of a request that has been answered already; a client may first send all
_REFUSAL = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose next request line and headers are too long (431) or take too long to arrive (408).

    So it does where too much surrounds a body's parts in chunks (431). Trailers are dropped, as a server may do (RFC
    9110, section 6.5.1).

    A connection that sends nothing at all is closed without an answer, as an idle one is. No other protocol is offered,
    and the header Upgrade is ignored, as a server may do (RFC 9110, section 7.8); Java's client sends it with every
    request to an http address.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._steps = 0
        self._bytes = 0
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
        """Count the bytes since the last step: a complete head, a part of a body, or a complete request.

        So only an incomplete head, a chunk's extension or trailers add up; data with a step in it is not counted.
        """
        steps = self._steps
        if self._in_head:  # what still comes of an answered request does not keep the connection open
            self._unset_keepalive_if_required()
        self._feed(data)
        if steps == self._steps:
            self._bytes += len(data)
            if self._bytes > HEAD_BYTES:
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
        self._unset_keepalive_if_required()
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse_slow)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, and drop a trailer, which nothing would read."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the timer: the head has arrived."""
        method = self.parser.get_method()
        if self.parser.should_upgrade() and method != b"CONNECT":
            fields = [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
            line = b"%s %s HTTP/1.1\r\n" % (method, self.url)
            self._head_without_upgrade = b"".join([line, *fields, b"\r\n"])
            return
        self._step()
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count anew."""
        self._step()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect another head."""
        if self._head_without_upgrade is not None:
            return
        self._step()
        self._in_head = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give a client time to send the rest of a request that is answered before it was read."""
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None and not self._in_head:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = self.loop.call_later(_REST_SECONDS, self.timeout_keep_alive_handler)

    def _step(self) -> None:
        self._steps += 1
        self._bytes = 0

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse_slow(self) -> None:
        self._head_timer = None
        if self._bytes:
            self._refuse(b"408 Request Timeout", b"the headers did not arrive in time")
        else:
            self.transport.close()

    def _refuse(self, status: bytes, message: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head or not self.cycle.response_started:
            body = b'{"error":"%s"}' % message
            self.transport.write(_REFUSAL % (status, len(body), body))
        self.transport.close()
