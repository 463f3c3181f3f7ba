"""A client of the service in this process, and what it should answer."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from bundle_factory import LABELS, expected_logits, random_images
from starlette.testclient import TestClient
from starlette.types import Message

from service.app import create_app
from service.engine import Engine
from service.metrics import Metrics
from service.settings import Settings
from service.staging import State
from service.tracing import Tracing
from subspace_serve.answers import softmax
from subspace_serve.bundle import Bundle
from subspace_serve.bundle.predict import Predictor

IMAGES = random_images(3)
GOOD = IMAGES[0].tolist()
JSON = {"content-type": "application/json"}


@contextlib.contextmanager
def served(
    bundle: Path, *, state: State | None = None, tracing: Tracing | None = None, **settings
) -> Iterator[TestClient]:
    """Yield a client of a service whose bundle is loaded."""
    metrics = Metrics()
    engine = Engine(Settings(bundle=bundle, **{"device": "cpu", "threads": 1, **settings}), metrics, state)
    engine.start().join()
    try:
        yield TestClient(create_app(engine, metrics, tracing), raise_server_exceptions=False)
    finally:
        engine.close()


@contextlib.contextmanager
def held_up(monkeypatch: pytest.MonkeyPatch, *points: str) -> Iterator[threading.Event]:
    """Make graphs (of these points, else of all) wait until the block ends; yields an event: one has begun."""
    begun, go_on = threading.Event(), threading.Event()
    logits = Predictor.logits

    def wait(self, name, images, run=None):
        if not points or name in points:
            begun.set()
            assert go_on.wait(20)
        return logits(self, name, images, run)

    monkeypatch.setattr(Predictor, "logits", wait)
    try:
        yield begun
    finally:
        go_on.set()


@contextlib.contextmanager
def poisoned(monkeypatch: pytest.MonkeyPatch, point: str, value: float) -> Iterator[None]:
    """Make a point answer with this number everywhere."""
    logits = Predictor.logits

    def answer(self, name, images, run=None):
        own = logits(self, name, images, run)
        return np.full_like(own, value) if name == point else own

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "logits", answer)
        yield


def text(data: bytes) -> str:
    """Return bytes in base64."""
    return base64.b64encode(data).decode()


def tensor(images: np.ndarray) -> dict[str, Any]:
    """Return uint8 images as the inference protocol's input in JSON."""
    return {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.ravel().tolist()}


def probabilities(response: httpx.Response, labels: Sequence[str] = LABELS) -> np.ndarray:
    """Return (N, classes) probabilities in the order of the labels."""
    assert response.status_code == 200, response.text
    return probabilities_of(response.json(), labels)


def probabilities_of(document: dict[str, Any], labels: Sequence[str] = LABELS) -> np.ndarray:
    """Return the (N, classes) probabilities of a document in the order of the labels, all of which it must have."""
    rows = [sorted(entry["labels"], key=lambda label: label["index"]) for entry in document["predictions"]]
    assert all([label["label"] for label in row] == list(labels) for row in rows)
    return np.array([[label["probability"] for label in row] for row in rows])


def expected(name: str, images: np.ndarray = IMAGES) -> np.ndarray:
    """Return the probabilities that a point must answer with."""
    return softmax(expected_logits(name, images))


def at_place(bundle: Path, images: np.ndarray, alpha: Any, statistics: str = "training") -> np.ndarray:
    """Return the probabilities that the network at a place of a bundle's subspace must answer with."""
    subspace = Predictor(Bundle.open(bundle), device="cpu", threads=1).subspace
    assert subspace is not None
    return softmax(subspace.network.at(alpha, subspace.statistics(statistics).at(alpha)).logits(images))


async def post_slowly(
    client: TestClient, parts: AsyncIterator[bytes], length: int, gone: Awaitable[object] | None = None
) -> int:
    """Post a body to /predict whose parts arrive when they arrive, and return the answer's status.

    The body ends when `length` bytes have been sent; then, with `gone`, the client goes away when that is over.
    """
    statuses: list[int] = []
    sent = 0

    async def receive() -> Message:
        nonlocal sent
        try:
            part = await anext(parts)
        except StopAsyncIteration:
            assert gone is not None
            await gone
            return {"type": "http.disconnect"}
        sent += len(part)
        return {"type": "http.request", "body": part, "more_body": sent < length}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers,
        "server": ("testserver", 80), "scheme": "http",
    }  # fmt: skip
    await client.app(scope, receive, send)
    return statuses[0]


def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds, and fail when it does not come to that."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
