"""As much load by gRPC as a local server can take, from a client that costs next to nothing.

A client of grpcio takes as much of a core as its server. All requests are the same here, so their HTTP/2 frames are
written once (RFC 9113; headers as literals, RFC 7541, section 6.2.2) and only the stream's number is new; of an answer
only the frames' heads are read.
"""

from __future__ import annotations

import socket
import statistics
import struct
import time
from dataclasses import dataclass, field

import click

from benchmarks.http_load import Burst

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACKNOWLEDGED = _END_STREAM = 1
_END_HEADERS = 4
_LARGEST_WINDOW = 2**31 - 1
_FIRST_WINDOW = 65_535
_FRAME_BYTES = 16_384
_TIMEOUT_SECONDS = 30.0


def burst(port: int, method: str, message: bytes, *, seconds: float, in_flight: int) -> Burst:
    """Call `/service/method` for some seconds with so many calls at once on one connection, as fast as it answers.

    Raises `click.ClickException` when a call has no message for an answer: a quick refusal must not look like a quick
    answer.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        calls = _Calls(connection, _headers(port, method), struct.pack(">?I", False, len(message)) + message)
        begin = time.perf_counter()
        for _ in range(in_flight):
            calls.begin()
        while time.perf_counter() - begin < seconds:
            for _ in range(calls.ended()):
                calls.begin()
        took = time.perf_counter() - begin
    latencies = statistics.quantiles(calls.latencies, n=100)
    return Burst(len(calls.latencies), took, 0, 0, latencies[49], latencies[98])


@dataclass
class _Calls:
    """The calls of one connection."""

    connection: socket.socket
    headers: bytes
    body: bytes
    latencies: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stream = -1
        self._begun: dict[int, float] = {}
        self._answered: set[int] = set()
        self._buffer = b""
        self._window = _FIRST_WINDOW
        settings = struct.pack(">HI", 4, _LARGEST_WINDOW)  # INITIAL_WINDOW_SIZE
        window = struct.pack(">I", _LARGEST_WINDOW - _FIRST_WINDOW)
        self.connection.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, window))

    def begin(self) -> None:
        """Send a request once the server's window for the connection allows."""
        while self._window < len(self.body):
            self._receive()
        self._window -= len(self.body)
        self._stream += 2
        self._begun[self._stream] = time.perf_counter()
        starts = range(0, len(self.body), _FRAME_BYTES)
        frames = [_frame(_HEADERS, _END_HEADERS, self._stream, self.headers)]
        for start in starts:
            flags = _END_STREAM if start == starts[-1] else 0
            frames.append(_frame(_DATA, flags, self._stream, self.body[start : start + _FRAME_BYTES]))
        self.connection.sendall(b"".join(frames))

    def ended(self) -> int:
        """Receive what has arrived, and return how many calls it ended."""
        before = len(self.latencies)
        self._receive()
        return len(self.latencies) - before

    def _receive(self) -> None:
        part = self.connection.recv(1 << 18)
        if not part:
            raise click.ClickException("the gRPC server closed the connection")
        data, at = self._buffer + part, 0
        while len(data) - at >= 9:
            end = at + 9 + int.from_bytes(data[at : at + 3], "big")
            if end > len(data):
                break
            self._take(data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big"), data[at + 9 : end])
            at = end
        self._buffer = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._answered.add(stream)
        elif kind == _WINDOW and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind in (_SETTINGS, _PING) and not flags & _ACKNOWLEDGED:
            self.connection.sendall(_frame(kind, _ACKNOWLEDGED, 0, payload if kind == _PING else b""))
        if kind in (_RESET, _GOAWAY) or (flags & _END_STREAM and kind == _HEADERS and stream not in self._answered):
            raise click.ClickException(f"the gRPC server refused a call: {payload[:300]!r}")
        if flags & _END_STREAM and kind in (_DATA, _HEADERS):
            self._answered.discard(stream)
            self.latencies.append(time.perf_counter() - self._begun.pop(stream))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _headers(port: int, method: str) -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": f"127.0.0.1:{port}",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(
        bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in fields.items()
    )
