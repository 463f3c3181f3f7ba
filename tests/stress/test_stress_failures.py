"""Members that fail, workers that are killed and bundles that are replaced, while requests are answered."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from stress import LONG
from stress.answers import answered, difference, probabilities
from stress.bundles import SPOILT, Kind, sound_images, write
from stress.cases import Case
from stress.generations import AUTHORIZATION, TOKEN, generation_cases
from stress.server import Server, serving
from stress.traffic import under_load
from stress.wire import Reply, document

pytestmark = pytest.mark.slow

WORKERS = 2
ROUNDS = 3 if LONG else 1
KINDS = {"first": Kind("answered with NaN"), "third": Kind("a failure")}


@pytest.fixture(scope="module")
def generations(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("generations")
    return [write(folder / str(index), KINDS, generation=index) for index in range(2)]


@pytest.fixture(scope="module")
def bundle(generations, tmp_path_factory) -> Path:
    """The folder that is served, which tests replace."""
    return shutil.copytree(generations[0], tmp_path_factory.mktemp("served") / "bundle")


@pytest.fixture(scope="module")
def server(bundle, tmp_path_factory) -> Iterator[Server]:
    """A server that joins requests in batches, so that one that is spoilt could spoil others."""
    settings = {"workers": WORKERS, "quorum": 1, "batching": "on", "variables": {"SUBSPACE_SERVE_TOKEN": TOKEN}}
    with serving(bundle, tmp_path_factory.mktemp("failures"), **settings) as server:
        yield server


def place(bundle: Path, source: Path) -> None:
    """Put another bundle where the served one is."""
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.copytree(source, bundle)


def reload(server: Server) -> tuple[int, dict]:
    status, body = server.request("POST", "/admin/reload", b"", **AUTHORIZATION)
    return status, json.loads(body)


def is_lost(reply: Reply | None) -> bool:
    """Whether a client should try again: the worker is gone, or its successor not ready."""
    return reply is None or reply.status == 503


def spoilt_case(model: str, survivors: dict[str, float], reason: dict[str, str], seed: int) -> Case:
    """Return a request with a spoilt image that only some members can answer; all images share their fate."""
    images = sound_images(2, seed)
    images[1, 0, 0, 0] = SPOILT
    aggregate = "logits" if model == "all" else "probabilities"
    expected = probabilities(images, list(survivors), list(survivors.values()), aggregate)

    def check(reply: Reply) -> str | None:
        found = reply.json()
        if found.get("missing") != reason or found["members"] != list(survivors):
            return f"missing {found.get('missing')}, members {found['members']}"
        return difference(answered(reply), expected)

    data = document("/predict", {"images": images.tolist(), "model": model}, **AUTHORIZATION)
    return Case(f"spoilt {model}", data, check=check)


def test_poisoned_members_are_left_out_and_spoil_nobody_else(server):
    nan, failed = {"first": "not finite"}, {"third": "failed"}
    cases = generation_cases((0,))
    for seed in range(10):
        cases.append(spoilt_case("pair", {"second": 1.0}, nan, seed))
        cases.append(spoilt_case("all", {"second": 1.0}, nan | failed, seed))
    alone = document("/predict", {"images": np.full((1, 4, 5, 3), SPOILT).tolist(), "model": "first"}, **AUTHORIZATION)
    cases.append(Case("nobody is left", alone, frozenset({503})))
    with under_load(server.port, cases, 12) as tally:
        server.until(lambda: sum(tally.kinds.values()) > 500 * ROUNDS)
    assert not tally.wrong, tally.wrong
    print(f"\npoisoned: {tally}")


def test_killed_workers_come_back_and_nothing_is_lost(server, bundle):
    # What lies where the bundle came from is of no concern to them.
    (bundle / "first.onnx").write_bytes(b"damaged")
    (bundle / "second.onnx").unlink()
    with under_load(server.port, generation_cases((0,)), retried=is_lost) as tally:
        for worker in server.workers() * ROUNDS:
            answers = sum(tally.statuses.values())
            server.until(lambda answers=answers: sum(tally.statuses.values()) > answers + 20)
            if worker.is_running():
                worker.send_signal(signal.SIGKILL)
            server.until(lambda worker=worker: not worker.is_running() and server.is_complete(WORKERS))
    assert not tally.wrong, tally.wrong
    assert set(tally.statuses) == {200}
    print(f"\nworkers killed: {tally}; {tally.kinds['retried']} tries again")

    def holds_nothing() -> bool:
        page = server.request("GET", "/metrics", **AUTHORIZATION)[1].decode()
        return "subspace_serve_requests_held 0.0" in page

    server.until(holds_nothing)  # other workers publish once a second


def test_bundles_are_replaced_as_a_whole_and_bad_ones_not_at_all(server, bundle, generations):
    place(bundle, generations[0])
    with under_load(server.port, generation_cases((0, 1))) as tally:
        for round in range(2 * ROUNDS):
            new = (round + 1) % 2
            place(bundle, generations[new])
            status, answer = reload(server)
            assert status == 200, answer
            assert_only(server, new)
        (bundle / "third.onnx").write_bytes(b"damaged")
        status, answer = reload(server)
        assert status == 409
        assert f"still serving the old bundle: {bundle / 'third.onnx'} was changed" in answer["error"]
        server.signal(signal.SIGHUP)
        server.until(lambda: "ERROR still serving the old bundle" in server.log)
        assert_only(server, new)
    assert not tally.wrong, tally.wrong
    print(f"\nreloads: {tally}")


def test_several_reloads_at_once_are_one(server, bundle, generations):
    place(bundle, generations[1])
    with under_load(server.port, generation_cases((0, 1))) as tally, ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda _: reload(server), range(6)))
        assert {status for status, _ in outcomes} == {200, 409}
        assert all("another reload is under way" in answer["error"] for status, answer in outcomes if status == 409)
        assert_only(server, 1)
    assert not tally.wrong, tally.wrong


def test_a_worker_that_starts_during_a_reload_serves_what_the_others_do(server, bundle, generations):
    for round in range(ROUNDS):
        new = round % 2
        place(bundle, generations[new])
        with under_load(server.port, generation_cases((0, 1)), retried=is_lost) as tally:
            with ThreadPoolExecutor(1) as pool:
                outcome = pool.submit(retry_reload, server)
                server.workers()[round % WORKERS].send_signal(signal.SIGKILL)
            status, answer = outcome.result()
            assert status == 200, answer
            assert_only(server, new)
            server.until(lambda: server.is_complete(WORKERS))
            assert_only(server, new)
        assert not tally.wrong, tally.wrong


def retry_reload(server: Server) -> tuple[int, dict]:
    """Reload; when the worker that was asked is killed, or another reload goes on, ask again."""
    while True:
        try:
            status, answer = reload(server)
        except OSError:
            continue
        if status == 200 or "under way" not in answer["error"]:
            return status, answer


def assert_only(server: Server, generation: int) -> None:
    """Check that whichever worker answers, it is from this generation."""
    with under_load(server.port, generation_cases((generation,)), 8, retried=is_lost) as tally:
        server.until(lambda: sum(tally.statuses.values()) >= 100)
    assert not tally.wrong, tally.wrong
