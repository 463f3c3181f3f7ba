"""Connections whose heads are too slow, or whose requests do not end, on a server in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
import threaded_server
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

import service.http
from service.http import BoundedProtocol


@contextlib.contextmanager
def listening(app: ASGIApp) -> Iterator[tuple[str, int]]:
    with threaded_server.listening(app, http=BoundedProtocol, ws="none") as url:
        yield "127.0.0.1", int(url.rpartition(":")[2])


@pytest.fixture
def address(monkeypatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(service.http, "HEAD_SECONDS", 0.2)
    with listening(PlainTextResponse("fine")) as address:
        yield address


def received(connection: socket.socket) -> bytes:
    answer = b""
    while part := connection.recv(4096):
        answer += part
    return answer


def test_a_head_that_does_not_arrive_is_408(address):
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost:")
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert answer.endswith(b'{"error":"the headers did not arrive in time"}')


def test_a_connection_that_says_nothing_is_closed(address):
    with socket.create_connection(address, timeout=10) as connection:
        assert received(connection) == b""


def test_a_second_head_has_its_own_time(address):
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = b""
        while b"fine" not in answer:
            answer += connection.recv(4096)
        connection.sendall(b"GET /")
        assert b"408 Request Timeout" in received(connection)


def test_a_body_may_take_longer_than_a_head(address):
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n")
        answer = connection.recv(4096)
        threading.Event().wait(0.3)
        connection.sendall(b"ab")
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (answer + received(connection)).count(b"200 OK") == 2


def test_a_large_body_is_none_of_a_head_and_upgrades_are_ignored(address):
    body = b"x" * 300_000
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n"
    with socket.create_connection(address, timeout=10) as connection:
        for _ in range(5):
            connection.sendall(head + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + body)
            answer = b""
            while b"fine" not in answer:
                answer += connection.recv(4096)
            assert answer.count(b"200 OK") == 1


def test_an_upgrade_is_ignored_wherever_its_header_is_cut(address):
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert b"\r\nUp" in head[50:80]
    for cut in range(60, 80):
        with socket.create_connection(address, timeout=10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(head[:cut])
            threading.Event().wait(0.02)  # so that it arrives apart
            connection.sendall(head[cut:] + b"ab" + b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert received(connection).count(b"200 OK") == 2, cut


@pytest.mark.parametrize("method", [b"CONNECT", b"PRI", b"GET"])
def test_other_ways_to_change_the_protocol_end(address, method):
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(method + b" x:80 HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: Upgrade, close\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 400 ")


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


def closes(connection: socket.socket, part: bytes, times: int, pause: float = 0) -> bool:
    """Say whether the server closes the connection while `part` is sent so many times."""
    with contextlib.suppress(ConnectionError):
        for _ in range(times):
            connection.sendall(part)
            threading.Event().wait(pause)
        return False
    return True


@pytest.mark.parametrize("end", [b"0\r\n", b"0\r\nx: ", b"2;", b"2\r\nab\r\n0\r\nx: "])
@pytest.mark.parametrize("part", [b"x: " + b"y" * 4000 + b"\r\n", b"y" * 4000])
@pytest.mark.parametrize("answered", [False, True])
def test_what_surrounds_a_body_is_bounded(end, part, answered):
    app = Unread()
    with listening(app) as address, socket.create_connection(address, timeout=10) as connection:
        connection.sendall(CHUNKED)
        assert app.begun.wait(10)
        if answered:
            app.go_on.set()
            assert b"fine" in connection.recv(4096)
        connection.sendall(end)
        assert closes(connection, part, 5000)
        app.go_on.set()


def test_a_request_whose_trailers_are_too_long_is_431():
    app = Unread()
    with listening(app) as address, socket.create_connection(address, timeout=10) as connection:
        connection.sendall(CHUNKED)
        assert app.begun.wait(10)
        connection.sendall(b"0\r\nx: ")
        threading.Event().wait(0.1)  # so that it is the last step
        connection.sendall(b"y" * 65536)
        assert received(connection).startswith(b"HTTP/1.1 431 Request Header Fields Too Large")
        app.go_on.set()


def test_trailers_are_no_headers():
    app = Unread()
    with listening(app) as address, socket.create_connection(address, timeout=10) as connection:
        connection.sendall(CHUNKED + b"2\r\nab\r\n0\r\nauthorization: x\r\n")
        assert app.begun.wait(10)
        connection.sendall(b"x-request-id: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        app.go_on.set()
        assert received(connection).count(b"200 OK") == 2
    assert [[name for name, _ in headers] for headers in app.headers] == [
        [b"host", b"transfer-encoding"],
        [b"host", b"connection"],
    ]


def test_a_body_in_many_small_chunks_is_taken(address):
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(CHUNKED + b"1\r\na\r\n" * 100_000 + b"0\r\n\r\n")
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert received(connection).count(b"200 OK") == 2


@pytest.mark.parametrize("head", [CHUNKED + b"0\r\n", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n"])
def test_the_rest_of_an_answered_request_does_not_keep_the_connection_open(monkeypatch, head):
    monkeypatch.setattr(service.http, "_REST_SECONDS", 0.3)
    app = PlainTextResponse("fine")
    with listening(app) as address, socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head)
        assert closes(connection, b"x: y\r\n", 40, pause=0.05)


def test_a_request_after_the_rest_of_another_has_its_own_time(monkeypatch):
    monkeypatch.setattr(service.http, "_REST_SECONDS", 0.3)
    slow = Slow()
    with listening(slow) as address, socket.create_connection(address, timeout=10) as connection:
        slow.go_on.set()
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")
        assert b"fine" in connection.recv(4096)
        slow.go_on.clear()
        slow.begun.clear()
        connection.sendall(b"bGET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert slow.begun.wait(10)
        assert not slow.gone.wait(0.5)
        slow.go_on.set()
        assert b"fine" in received(connection)


class Unread:
    """Answers when it is told to, and reads no body."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.headers: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers.append(scope["headers"])
        self.begun.set()
        while not self.go_on.is_set():
            await asyncio.sleep(0.01)
        await PlainTextResponse("fine")(scope, receive, send)


class Slow:
    """Answers when it is told to, and says whether its client went away before."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.gone = threading.Event(), threading.Event(), threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        self.begun.set()
        leaving = asyncio.ensure_future(receive())
        while not self.go_on.is_set() and not leaving.done():
            await asyncio.sleep(0.01)
        if leaving.done():
            self.gone.set()
        leaving.cancel()
        await PlainTextResponse("fine")(scope, receive, send)


@pytest.mark.parametrize("count", [1, 2])
def test_a_client_that_has_ended_its_sending_half_is_answered(count):
    slow = Slow()
    with listening(slow) as address, socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * count)
        assert slow.begun.wait(10)
        connection.shutdown(socket.SHUT_WR)
        assert not slow.gone.wait(0.3)
        slow.go_on.set()
        answer = received(connection)
    assert not slow.gone.is_set()
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b"fine") == count
    assert answer.count(b"HTTP/1.1 100 Continue") == (count == 1)
    assert answer.count(b"connection: close") == 1


@pytest.mark.parametrize("half_first", [False, True])
def test_a_client_that_has_gone_is_noticed(half_first):
    slow = Slow()
    with listening(slow) as address:
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert slow.begun.wait(10)
            if half_first:
                connection.shutdown(socket.SHUT_WR)
        assert slow.gone.wait(10)


def test_a_body_that_breaks_off_is_not_waited_for():
    slow = Slow()
    with listening(slow) as address, socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab")
        assert slow.begun.wait(10)
        connection.shutdown(socket.SHUT_WR)
        assert slow.gone.wait(10)
        assert received(connection) == b""
