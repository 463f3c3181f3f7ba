"""A gRPC service in this process, and calls to it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_client import IMAGES
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import Engine
from service.metrics import Metrics
from service.settings import Settings
from service.tracing import Tracing

grpc = pytest.importorskip("grpc")

from service.grpc.messages import REQUESTS, SERVICE  # noqa: E402
from service.grpc.server import GrpcServer  # noqa: E402


@dataclass
class Served:
    """One engine below both transports."""

    engine: Engine
    http: TestClient
    address: str

    def call(self, method: str, message: bytes, metadata: Any = (), **options: Any) -> bytes:
        """Call a method with bytes; raises `grpc.RpcError`."""
        with grpc.insecure_channel(self.address) as channel:
            return channel.unary_unary(f"/{SERVICE}/{method}")(message, metadata=metadata, timeout=20, **options)

    def metric(self, line: str) -> bool:
        return line in self.http.get("/metrics", headers={"authorization": "Bearer secret"}).text


@contextlib.contextmanager
def served(bundle: Path, *, tracing: Tracing | None = None, load: bool = True, **settings: Any) -> Iterator[Served]:
    metrics = Metrics()
    engine = Engine(Settings(bundle=bundle, device="cpu", threads=1, drain=0.0, **settings), metrics)
    if load:
        engine.start().join()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(function: Callable[[], Any]) -> Any:
        async def call() -> Any:
            found = function()
            return await found if asyncio.iscoroutine(found) else found

        return asyncio.run_coroutine_threadsafe(call(), loop).result(30)

    server = run(lambda: GrpcServer(engine, metrics, tracing))
    run(server.start)
    try:
        yield Served(engine, TestClient(create_app(engine, metrics)), f"127.0.0.1:{server.port}")
    finally:
        run(server.stop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
        engine.close()


def infer_request(images: np.ndarray = IMAGES, model: str = "midpoint", **values: Any) -> Any:
    message = REQUESTS["ModelInfer"](model_name=model, raw_input_contents=[images.tobytes()])
    message.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    message.MergeFrom(REQUESTS["ModelInfer"](**values))
    return message


def refused(call: Callable[[], object]) -> tuple[str, str, dict[str, Any]]:
    """Return the code, the message and the trailing metadata with which a call fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details(), dict(caught.value.trailing_metadata() or ())
