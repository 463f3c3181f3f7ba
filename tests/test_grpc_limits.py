"""What clients of gRPC may hold: memory, places, connections, ports."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from grpc_service import Served, infer_request, refused, served
from ports import free_port
from service_client import until

from service.documents import RequestError
from service.settings import Settings, SettingsError, load_settings
from subspace_serve.cli.serving import _reserve
from subspace_serve.errors import SubspaceServeError

grpc = pytest.importorskip("grpc")

from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402

from service.grpc.arrivals import Arrivals  # noqa: E402
from service.grpc.health import CHECK, WATCH  # noqa: E402
from service.grpc.messages import REQUESTS, SERVICE  # noqa: E402
from service.grpc.methods import Call  # noqa: E402
from service.grpc.reflecting import REFLECT  # noqa: E402
from service.grpc.refusing import RefusedCall  # noqa: E402
from service.grpc.wire import WireError, bytes_besides  # noqa: E402

INFER = f"/{SERVICE}/ModelInfer"
GOOD = infer_request().SerializeToString()
ASKED = health_pb2.HealthCheckRequest()
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def service(bundle) -> Iterator[Served]:
    with served(bundle) as own:
        yield own


@contextlib.contextmanager
def idle_calls(own: Served, path: str, count: int) -> Iterator[list[Any]]:
    """Begin calls that send no message; they last until the block ends."""
    go_on = threading.Event()

    def never() -> Iterator[bytes]:
        go_on.wait(20)
        yield from ()

    with grpc.insecure_channel(own.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.stream_unary(path)
        try:
            yield [call.future(never(), timeout=20) for _ in range(count)]
        finally:
            go_on.set()


@pytest.mark.parametrize("padding", [100, 300_000])
def test_nothing_is_kept_of_refused_calls(service, padding):
    def kept(*kinds: type) -> int:
        return sum(isinstance(found, kinds) for found in gc.get_objects())

    wrong = infer_request(raw_input_contents=[bytes(padding)]).SerializeToString()
    gc.collect()
    gc.disable()
    try:
        for message in (wrong, b"\xff" * padding, GOOD.replace(b"midpoint", b"nobodies")) * 3:
            assert refused(lambda message=message: service.call("ModelInfer", message))[0]
        with grpc.insecure_channel(service.address) as channel:
            for path, begin in ((CHECK, channel.unary_unary), (WATCH, channel.unary_stream)):
                assert refused(lambda path=path, begin=begin: list(begin(path)(b"\xff" * padding, timeout=20)))[0]
        until(lambda: not kept(Call, RefusedCall, RequestError))
        assert kept(grpc.aio.AbortError) <= 2  # of the last calls, which grpcio keeps until the next
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (b"", 0),
        (b"\x3a\x03abc", 2),  # data itself does not count
        (b"\x3a\x00" * 5, 10),  # but each that is empty does
        (b"\x0a\x03abc\x3a\x01x", 7),  # another field
        (b"\x2a\x04\x2a\x02\x22\x00", 6),  # numbers within a tensor
        (b"\x2a\x09\x0a\x01n\x2a\x04\x22\x02\x05\x06", 9),
        (b"\x38\x96\x01", 3),  # the number of data, but no bytes
        (b"\x39" + bytes(8) + b"\x3d" + bytes(4), 14),
        (b"\xba\x80\x00\x03abc", 4),  # the same number, written at length
    ],
)
def test_bytes_besides_data(message, count):
    data = {7: None, 5: {5: {4: None}}}
    assert bytes_besides(data, message, 100) == count
    for end in range(len(message)):  # cut off, it is no message, or one that is shorter
        with contextlib.suppress(WireError):
            assert bytes_besides(data, message[:end], 100) <= end


@pytest.mark.parametrize(
    "message", [b"\x3a", b"\x3a\x05abc", b"\xff" * 11, b"\x3a" + b"\xff" * 10 + b"\x01", b"\x3b\x3c", b"\x2a\x01\x2a"]
)
def test_what_is_no_message_on_the_wire(message):
    with pytest.raises(WireError):
        bytes_besides({7: None, 5: {}}, message, 100)


def nested(*fields: int, payload: bytes) -> bytes:
    for number in reversed(fields):
        length, digits = len(payload), b""
        while length > 0x7F:
            digits, length = digits + bytes([length & 0x7F | 0x80]), length >> 7
        payload = bytes([number << 3 | 2]) + digits + bytes([length]) + payload
    return payload


@pytest.mark.parametrize(
    "message",
    [
        b"\x2a\x00" * 40_000,  # inputs
        b"\x32\x00" * 40_000,  # outputs
        b"\x3a\x00" * 40_000,  # raw contents
        nested(5, 3, payload=bytes(70_000)),  # a shape
        nested(5, 5, payload=b"\x42\x00" * 40_000),  # contents that are bytes
        nested(5, 5, payload=b"\x20\x00" * 40_000),  # numbers one by one
        nested(3, payload=b"i" * 70_000),  # an id
    ],
)
def test_messages_of_which_too_much_would_be_made(service, message):
    code, text, _ = refused(lambda: service.call("ModelInfer", message))
    assert (code, "over 65536 bytes that are not tensors' data" in text) == ("INVALID_ARGUMENT", True), text


def test_large_messages_of_data_are_decoded(service):
    for contents in ({"raw_input_contents": [bytes(200_000)]}, {}):
        message = REQUESTS["ModelInfer"](model_name="midpoint", **contents)
        tensor = message.inputs.add(name="image", datatype="UINT8", shape=[1])
        if not contents:
            tensor.contents.uint_contents.extend(bytes(200_000))
        text = refused(lambda message=message: service.call("ModelInfer", message.SerializeToString()))[1]
        assert "image has the shape [1], expected [N, 4, 5, 3]" in text
    text = refused(lambda: service.call("ModelReady", b"\x0a\x01x" * 30_000))[1]
    assert "ModelReadyRequest with over 65536 bytes" in text


def test_small_messages_of_the_open_services(service):
    with grpc.insecure_channel(service.address) as channel:
        large = nested(1, payload=b"x" * 70_000)
        for call in (channel.unary_unary(CHECK), channel.unary_stream(WATCH)):
            code, text, _ = refused(lambda call=call: list(call(large, timeout=20)))
            assert (code, "HealthCheckRequest with over 65536 bytes" in text) == ("INVALID_ARGUMENT", True)
        reflect = channel.stream_stream(REFLECT)
        code, text, _ = refused(lambda: list(reflect(iter([large]), timeout=20)))
        assert (code, "ServerReflectionRequest with over 65536 bytes" in text) == ("INVALID_ARGUMENT", True)
        health = health_pb2_grpc.HealthStub(channel)
        nobody = health_pb2.HealthCheckRequest(service="nobody")
        assert refused(lambda: health.Check(nobody, timeout=20))[0] == "NOT_FOUND"
        assert next(health.Watch(nobody, timeout=20)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady"])
def test_probes_wait_for_no_message(service, method):
    with idle_calls(service, f"/{SERVICE}/{method}", 5) as calls:
        assert [call.result(20) for call in calls] == [b"\x08\x01"] * 5


def test_calls_that_send_nothing_make_room(bundle, monkeypatch):
    monkeypatch.setattr("service.grpc.calls._PATIENCE_SECONDS", 0.0)
    with served(bundle, concurrency=1, queue=0) as own:
        with idle_calls(own, INFER, 3) as calls:
            until(lambda: sum(call.done() for call in calls) == 2)
            assert own.call("ModelInfer", GOOD)
            for call in calls:
                assert refused(call.result)[:2] == ("DEADLINE_EXCEEDED", "the message did not arrive in time")
        with idle_calls(own, CHECK, 40), grpc.insecure_channel(own.address) as channel:
            assert health_pb2_grpc.HealthStub(channel).Check(ASKED, timeout=20).status == SERVING
            assert own.call("ModelInfer", GOOD)


def test_messages_on_their_way_are_given_time(bundle, monkeypatch):
    monkeypatch.setattr("service.grpc.calls._PATIENCE_SECONDS", 60.0)
    with served(bundle, concurrency=1, queue=0) as own, idle_calls(own, INFER, 3) as calls:
        until(lambda: sum(call.done() for call in calls) == 2)
        code, text, trailing = refused(lambda: own.call("ModelInfer", GOOD))
        assert (code, text) == ("RESOURCE_EXHAUSTED", "too many messages are being received; try again later")
        assert trailing["grpc-retry-pushback-ms"] == "1000"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def connect(own: Served, settings: bytes = b"") -> socket.socket:
    """Return a connection that has begun to speak HTTP/2."""
    host, _, port = own.address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings))
    return connection


def test_a_watch_that_reads_nothing_holds_up_no_other(bundle):
    fields = {":method": "POST", ":scheme": "http", ":path": WATCH, ":authority": "x",
              "content-type": "application/grpc", "te": "trailers"}  # fmt: skip
    head = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    with served(bundle, grace=1.0) as own, contextlib.closing(connect(own, struct.pack(">HI", 4, 0))) as stuck:
        stuck.sendall(frame(4, 1, 0, b"") + frame(1, 4, 1, head) + frame(0, 1, 1, bytes(5)))
        assert b"\x00\x03\x00\x00\x00\x64" in stuck.recv(4096)  # SETTINGS_MAX_CONCURRENT_STREAMS is 100
        with grpc.insecure_channel(own.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(ASKED, timeout=20)
            assert next(watch).status == SERVING
            own.engine.draining = True
            assert [answer.status for answer in watch] == [NOT_SERVING]


def test_watches_are_bounded_and_end_with_the_server(bundle, monkeypatch):
    monkeypatch.setattr("service.grpc.health.WATCHES", 2)
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(served(bundle))
        health = health_pb2_grpc.HealthStub(stack.enter_context(grpc.insecure_channel(own.address)))
        first, second = (health.Watch(ASKED, timeout=20) for _ in range(2))
        assert [next(first).status, next(second).status] == [SERVING, SERVING]
        code, text, _ = refused(lambda: list(health.Watch(ASKED, timeout=20)))
        assert (code, text) == ("RESOURCE_EXHAUSTED", "2 calls are watching already; try again later, or use Check")
        assert health.Check(ASKED, timeout=20).status == SERVING
        first.cancel()

        def again() -> bool:
            with contextlib.suppress(grpc.RpcError):
                return next(health.Watch(ASKED, timeout=20)).status == SERVING
            return False

        until(again)
        own.engine.draining = True
        statuses = []
        # The connection is closed right after, and a client that writes to it then can see that before the call's end.
        with contextlib.suppress(grpc.RpcError):
            for answer in second:
                statuses.append(answer.status)
        assert statuses == [NOT_SERVING]
        assert second.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)


def test_connections_are_bounded(bundle, monkeypatch):
    monkeypatch.setattr("service.grpc.server._CONNECTIONS", 2)
    with served(bundle) as own, contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(contextlib.closing(connect(own))) for _ in range(3))
        assert first.recv(1)
        assert second.recv(1)
        with contextlib.suppress(ConnectionError):
            assert third.recv(1) == b""


def test_a_port_is_kept_from_the_moment_it_is_reserved():
    settings = Settings(grpc_port=free_port())
    with contextlib.closing(_reserve(settings)):
        with pytest.raises(SubspaceServeError, match="Address already in use.*choose another with --grpc-port"):
            _reserve(settings)
        workers = [grpc.server(None, options=[("grpc.so_reuseport", 1)]) for _ in range(2)]
        assert {worker.add_insecure_port(f"127.0.0.1:{settings.grpc_port}") for worker in workers} == {
            settings.grpc_port
        }
    with contextlib.closing(_reserve(Settings(grpc_port=free_port()))) as other:
        assert other is not None


@pytest.mark.parametrize("token", ["geheimnisträger", "two\nlines"])
def test_a_token_that_grpc_cannot_send(token):
    assert load_settings({"token": token}, {}).token == token
    with pytest.raises(SettingsError, match="the token has characters other than printable ASCII") as caught:
        load_settings({"token": token, "grpc_port": 3001}, {})
    assert token not in str(caught.value)


def test_unknown_parameters_are_told_those_of_grpc(service):
    request = infer_request()
    request.parameters["alfa"].string_param = "0"
    text = refused(lambda: service.call("ModelInfer", request.SerializeToString()))[1]
    assert text.endswith("known are members, weights, aggregate, alpha, domain, coverage, max_risk, timeout")
    request = infer_request()
    request.inputs[0].parameters["alfa"].string_param = "0"
    text = refused(lambda: service.call("ModelInfer", request.SerializeToString()))[1]
    assert text == "unknown parameter: 'alfa' is not known; known are none"


def test_a_call_whose_time_is_up_as_it_makes_room_is_expelled_once():
    class Silent:
        async def read(self) -> None:
            await asyncio.sleep(60)

    async def run() -> list[dict[str, Any]]:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        arrivals = Arrivals(1, deadline=0.02)
        calls = [asyncio.create_task(arrivals.next(Silent()))]
        await asyncio.sleep(0)
        calls.append(asyncio.create_task(arrivals.next(Silent())))
        time.sleep(0.03)  # so that the second call begins, and the first one's timer runs, in the same turn
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [(type(end), end.status) for end in ends] == [(RefusedCall, 408)] * 2
        return errors

    assert asyncio.run(run()) == []
