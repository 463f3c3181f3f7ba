"""What is hardly HTTP any more, and clients that are slow or go away."""

from __future__ import annotations

import json
from collections.abc import Iterator

from stress.bundles import sound_images
from stress.cases import CLOSED, Case, refused
from stress.wire import request

_BODY = json.dumps({"images": sound_images(1).tolist(), "model": "pair"}).encode()
_REFUSED = {400, CLOSED}


def broken_http_cases() -> list[Case]:
    """Return every kind once; each has a connection of its own."""
    return [*_lines(), *_heads(), *_bodies(), *_quitters()]


def _alone(name: str, data: bytes, statuses: set[int] = _REFUSED) -> Case:
    return refused(f"HTTP: {name}", data, statuses, delivery="alone")


def _lines() -> Iterator[Case]:
    rest = b"host: x\r\n\r\n"
    yield _alone("nonsense", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20)
    yield _alone("version 0.9", b"GET /livez\r\n\r\n", {200, 400, CLOSED})
    yield _alone("version 2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    yield _alone("version 9", b"GET /livez HTTP/9.9\r\n" + rest)
    yield _alone("no method", b" /livez HTTP/1.1\r\n" + rest)
    yield _alone("an unknown method", b"PREDICT /predict HTTP/1.1\r\n" + rest)
    yield _alone("a small method", b"get /livez HTTP/1.1\r\n" + rest)
    yield _alone("no address", b"GET HTTP/1.1\r\n" + rest)
    yield _alone("a tunnel", b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + rest, {400, 404, 405, CLOSED})
    yield _alone("an asterisk", b"OPTIONS * HTTP/1.1\r\n" + rest, {400, 404, 405, CLOSED})
    yield _alone("an address of null bytes", b"GET /\x00 HTTP/1.1\r\n" + rest)
    yield _alone("an address that is not ASCII", b"GET /\xff\xfe HTTP/1.1\r\n" + rest, {400, 404, CLOSED})
    yield _alone("a port of letters", b"GET http://x:y/livez HTTP/1.1\r\n" + rest)
    yield _alone("a long line", b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + rest, {400, 431, CLOSED})


def _heads() -> Iterator[Case]:
    begin = b"GET /livez HTTP/1.1\r\nhost: x\r\n"
    yield _alone("a large head", begin + b"x: " + b"y" * 300_000 + b"\r\n\r\n", {400, 431, CLOSED})
    yield _alone("many heads", begin + b"x: y\r\n" * 60_000 + b"\r\n", {400, 431, CLOSED})
    yield _alone("a head without a colon", begin + b"nonsense\r\n\r\n")
    yield _alone("a head of null bytes", begin + b"x: \x00\r\n\r\n")
    yield _alone("a name with a space", begin + b"x y: z\r\n\r\n")
    yield _alone("a folded head", begin + b"x: a\r\n b\r\n\r\n", {200, 400, CLOSED})
    yield _alone("lines of another kind", b"GET /livez HTTP/1.1\nhost: x\n\n", {200, 400, CLOSED})


def _bodies() -> Iterator[Case]:
    begin = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    for name, length in {
        "letters": b"ten",
        "nothing": b"",
        "negative": b"-1",
        "huge": b"9" * 40,
        "hex": b"0x10",
    }.items():
        yield _alone(
            f"a length: {name}", begin + b"content-length: " + length + b"\r\n\r\n" + _BODY, {400, 413, CLOSED}
        )
    yield _alone("two lengths", begin + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!")
    both = begin + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    yield _alone("a length and chunks", both)
    yield _alone("a coding that is unknown", begin + b"transfer-encoding: rot13\r\n\r\nuryyb")
    for name, chunk in {
        "letters": b"zz\r\nhello\r\n", "negative": b"-5\r\nhello\r\n", "huge": b"f" * 30 + b"\r\nhello\r\n",
        "too short": b"2\r\nhello\r\n0\r\n\r\n", "a long extension": b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n",
    }.items():  # fmt: skip
        yield _alone(f"a chunk: {name}", begin + b"transfer-encoding: chunked\r\n\r\n" + chunk)
    yield _alone("garbage after a request", request("/predict", b"{") + b"\x00\xff garbage\r\n\r\n")


def _quitters() -> Iterator[Case]:
    whole = request("/predict", _BODY)
    for name, data in {"half a head": whole[:40], "half a body": whole[:-50], "nothing": b"", "all": whole}.items():
        yield Case(f"gone after {name}", data, delivery="abandoned")
    yield Case("slow", whole, delivery="trickled")
    yield Case("slow and wrong", request("/predict", b"[]"), frozenset({400}), delivery="trickled")
