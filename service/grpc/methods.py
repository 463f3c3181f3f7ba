"""The protocol's methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from service.engine import Engine
from service.grpc.health import CHECK, Health
from service.grpc.messages import REQUESTS, RESPONSES, SERVICE, parse_message
from service.grpc.translation import parse_request, response_to
from service.inference_protocol.metadata import VERSION, check_model, model_metadata, server_metadata
from service.record import Record

_EXTENSIONS = ("classification", "parameters")  # the server's others are HTTP's


@dataclass
class Call:
    """What was sent to a method: its message, and the seconds until the client's deadline, counted from its arrival."""

    message: bytes
    record: Record
    timeout: float | None = None

    def take(self) -> bytes:
        """Return the message, and keep it no longer."""
        message, self.message = self.message, b""
        return message


@dataclass(frozen=True)
class Method:
    """A method: what answers it, with a message's bytes. Probes need no token, and are not logged or traced.

    Where the message of one has nothing to say, it is not waited for.
    """

    answer: Callable[[Call], Awaitable[bytes]]
    is_probe: bool = False
    is_inference: bool = False
    has_message: bool = True


class Methods:
    """The functions of the methods, for one engine. All raise what `service.refusals` knows."""

    def __init__(self, engine: Engine, health: Health) -> None:
        self._engine = engine
        self._health = health

    def by_path(self) -> dict[str, Method]:
        """Return every method."""
        own = {
            "ServerLive": Method(self.live, is_probe=True, has_message=False),
            "ServerReady": Method(self.ready, is_probe=True, has_message=False),
            "ModelReady": Method(self.model_ready),
            "ServerMetadata": Method(self.server),
            "ModelMetadata": Method(self.model),
            "ModelInfer": Method(self.infer, is_inference=True),
        }
        return {f"/{SERVICE}/{name}": method for name, method in own.items()} | {
            CHECK: Method(self.check, is_probe=True)
        }

    async def live(self, call: Call) -> bytes:
        """Whether the process answers."""
        return _serialized("ServerLive", live=True)

    async def ready(self, call: Call) -> bytes:
        """Whether requests should be sent here."""
        return _serialized("ServerReady", ready=self._engine.ready)

    async def check(self, call: Call) -> bytes:
        """The same by gRPC's health service."""
        return self._health.check(call.message)

    async def model_ready(self, call: Call) -> bytes:
        """Whether a model answers."""
        request = parse_message(REQUESTS["ModelReady"], call.message)
        self._check(request.name, request.version)
        return _serialized("ModelReady", ready=self._engine.ready)

    async def server(self, call: Call) -> bytes:
        """The server and its extensions."""
        return _serialized("ServerMetadata", **(server_metadata() | {"extensions": _EXTENSIONS}))

    async def model(self, call: Call) -> bytes:
        """A model's input and outputs, with -1 where a dimension is free."""
        request = parse_message(REQUESTS["ModelMetadata"], call.message)
        self._check(request.name, request.version)
        return _serialized("ModelMetadata", **model_metadata(self._engine.loaded.predictor, request.name))

    async def infer(self, call: Call) -> bytes:
        """Classify a tensor of images."""
        engine, record = self._engine, call.record
        with engine.admitted():
            size = len(call.message)
            # While it waits for its turn, a request holds its tensor, and not the message around it too.
            model, version, infer = await engine.parsed(lambda: parse_request(call.take()), size, record)
            self._check(model, version)
            question = infer.question(model, engine.settings)
            if call.timeout is not None:
                timeout = min(call.timeout, question.timeout or call.timeout)
                question = dataclasses.replace(question, timeout=timeout)
            answer = await engine.answer(question, record)
        return response_to(infer.document, answer, model)

    def _check(self, model: str, version: str) -> None:
        check_model(self._engine.loaded.predictor, model, version or VERSION)


def _serialized(method: str, **values: Any) -> bytes:
    serialized: bytes = RESPONSES[method](**values).SerializeToString()
    return serialized
