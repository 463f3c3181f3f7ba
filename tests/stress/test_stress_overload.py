"""Four times as many requests as can be answered: those that are, are; the others are refused at once."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator

import numpy as np
import pytest
from image_files import png

from stress import LONG
from stress.answers import answered, difference, probabilities
from stress.bundles import SPOILT, Kind, sound_images, write
from stress.cases import Case
from stress.server import Server, serving
from stress.traffic import Tally, drive, drive_openly
from stress.wire import Reply, document

pytestmark = [pytest.mark.slow, pytest.mark.alone]

SECONDS = 15.0 if LONG else 2.5
ROUNDS = 3 if LONG else 1
QUEUE = 8
REFUSED = 429


def case(seed: int) -> Case:
    """Return a request that is answered rightly, or refused as one that is too many."""
    images = sound_images(1, seed)
    expected = probabilities(images, ["first"], [1.0], "logits")

    def check(reply: Reply) -> str | None:
        if reply.status == REFUSED:
            return None if reply.headers.get("retry-after") == "1" else "no Retry-After"
        return difference(answered(reply), expected)

    request = document("/predict", {"images": images.tolist(), "model": "first"})
    return Case("slow", request, frozenset({200, REFUSED}), check)


CASES = [case(seed) for seed in range(50)]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server whose only thread takes some 25 ms for an image, so that a core is left for whoever asks."""
    folder = tmp_path_factory.mktemp("overload")
    bundle = write(folder / "bundle", {"first": Kind(products=50), "second": Kind("endless")})
    with serving(bundle, folder, concurrency=1, queue=QUEUE) as server:
        yield server


def saturate(server: Server, count: int) -> tuple[float, Tally]:
    """Send requests two at a time and return how many were answered in a second."""
    start = time.monotonic()
    tally = asyncio.run(drive(server.port, (CASES[index % len(CASES)] for index in range(count)), 2))
    return tally.statuses[200] / (time.monotonic() - start), tally


def test_overload_is_refused_and_nothing_else_suffers(server):
    rate, calm = saturate(server, 40)
    goods, rates = [], []
    for _ in range(ROUNDS):
        rate, calm = saturate(server, int(rate * SECONDS / 2))
        assert not calm.wrong, calm.wrong
        start = time.monotonic()
        flood = asyncio.run(drive_openly(server.port, CASES, 4 * rate, SECONDS))
        good = flood.statuses[200] / (time.monotonic() - start)
        print(f"\nsaturated: {rate:.1f}/s, {calm}\noffered {4 * rate:.1f}/s: {good:.1f}/s answered, {flood}")
        assert not flood.wrong, flood.wrong
        assert set(flood.statuses) == {200, REFUSED}
        assert flood.statuses[REFUSED] > flood.statuses[200]
        # Nobody waits for more than the queue before it; twice that is what a busy machine may add.
        assert flood.percentile(0.99) <= 2 * (QUEUE + 2) / rate + 1
        rates.append(rate)
        goods.append(good)
    if LONG:
        assert sum(goods) >= 0.9 * sum(rates)
    server.until(lambda: server.metric("requests_held") == 0)
    assert server.is_ready()


def test_what_nobody_waits_for_is_ended(server):
    """At its deadline a request is answered 504, and its graph stops before its next operator."""
    spoilt = sound_images(1)
    spoilt[0, 0, 0, 0] = SPOILT
    tensor = {"name": "image", "shape": [1, 4, 5, 3], "datatype": "UINT8", "data": spoilt.ravel().tolist()}
    body = json.dumps({"inputs": [tensor], "parameters": {"timeout": 1_000_000}}).encode()
    start = time.monotonic()
    status, answer = server.request("POST", "/v2/models/second/infer", body)
    seconds = time.monotonic() - start
    assert status == 504, answer
    print(f"\n504 after {seconds:.2f} s")
    assert 1 <= seconds < 5
    (worker,) = server.workers()
    server.until(lambda: worker.cpu_percent(0.5) < 20, seconds=10)
    assert server.metric("requests_held") == 0


@pytest.mark.skipif(not LONG, reason="STRESS=long runs it")
def test_decoding_ends_with_the_deadline(tmp_path):
    """What is small may take long to decode; that ends when nobody waits for it any more."""
    large = base64.b64encode(png(np.zeros((5000, 5000, 3), np.uint8))).decode()
    with serving(write(tmp_path / "bundle"), tmp_path, deadline=1) as server:
        assert server.predict([large] * 64)[0] == 504
        (worker,) = server.workers()
        server.until(lambda: worker.cpu_percent(0.5) < 20, seconds=5)
