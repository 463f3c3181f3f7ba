"""The drift alarm of a service: which answers are watched, by whom, what is said of them, and what survives."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import make_bundle, random_images
from client_transport import URL, through
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter
from service_client import GOOD, served, tensor, until
from starlette.testclient import TestClient

from service.drift_store import DriftStore
from service.responses import Drift
from service.settings import Settings
from service.staging import State, stage
from subspace_serve.bundle import Bundle
from subspace_serve.bundle.drift import DriftReference
from subspace_serve.bundle.predict import Predictor
from subspace_serve.client import AsyncClient, Client, RequestRefused
from subspace_serve.drift import Stream, mean_intensities, values_of

TOKEN = {"authorization": "Bearer secret"}
USUAL = random_images(600, seed=3)
DARK = USUAL // 3


@pytest.fixture(autouse=True)
def dice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break ties the same way each time: one stream of twenty that do not change may raise an alarm."""
    default_rng = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed=0: default_rng(seed))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle that keeps calibration images for its midpoint and one ensemble."""
    folder = tmp_path_factory.mktemp("drift")
    predictor = Predictor(Bundle.open(make_bundle(folder / "without")), device="cpu", threads=1)
    references = {}
    for name in ("midpoint", "endpoints"):
        answer = predictor.predict(USUAL, predictor.select(name))
        values = values_of(answer.probabilities, answer.disagreement, mean_intensities(USUAL))
        references[name] = {"drift": DriftReference.of(values, "digits:validation")}
    return make_bundle(folder / "bundle", promises=references)


@pytest.fixture
def client(bundle) -> Iterator[TestClient]:
    with served(bundle, max_images=100) as client:
        yield client


def ask(client: TestClient, images: np.ndarray, **options: Any) -> None:
    response = client.post("/predict", json={"images": images.tolist(), **options})
    assert response.status_code == 200, response.text


def drift(client: TestClient, model: str = "midpoint") -> dict[str, Any]:
    response = client.get(f"/models/{model}/drift")
    assert response.status_code == 200, response.text
    TypeAdapter(Drift).validate_python(response.json(), strict=True)
    return response.json()


def gauges(client: TestClient, model: str) -> dict[str, float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        sample.name.removeprefix("subspace_serve_drift_"): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("subspace_serve_drift_") and sample.labels == {"model": model}
    }


def test_a_change_raises_the_alarm_of_the_model_that_saw_it(client):
    for begin in range(0, 300, 100):
        ask(client, USUAL[begin : begin + 100])
        before = drift(client)
    assert before["images"] == 300
    assert before["calibration"] == {"data": "digits:validation", "images": 600}
    assert [entry["name"] for entry in before["statistics"]] == ["max_probability", "mean_intensity"]
    assert (before["alarm"], before["since"], before["advice"][:7]) == (False, None, "nothing")
    assert before["p_value"] > 0.05
    ask(client, DARK[:100])
    after = drift(client)
    assert after["images"] == 400
    assert after["alarm"] is True
    assert 300 < after["since"]["image"] < 320
    assert after["since"]["time"][:4] == str(time.gmtime().tm_year)
    assert after["p_value"] < 1e-6
    assert after["log10_wealth"] == max(entry["log10_wealth"] for entry in after["statistics"]) > 6
    assert "adapt" in after["advice"]
    assert gauges(client, "midpoint") == {"log10_wealth": after["log10_wealth"], "alarm": 1, "images": 400}
    assert gauges(client, "endpoints") == {"log10_wealth": pytest.approx(-np.log10(3)), "alarm": 0, "images": 0}
    ask(client, USUAL[:100])
    assert drift(client)["since"] == after["since"]


def test_the_own_answers_of_points_and_ensembles_are_watched_and_no_others(client):
    four = USUAL[:4]
    for options in ({}, {"model": "midpoint"}, {"alpha": 0.5}):
        ask(client, four, **options)
    pair = ["endpoint-0", "endpoint-1"]
    for options in ({}, {"members": pair[::-1]}):
        ask(client, four, model="endpoints", **options)
    for options in (
        {"members": ["midpoint", "endpoint-0"]},
        {"model": "endpoints", "members": pair[:1]},
        {"model": "endpoints", "weights": [3, 1]},
        {"model": "endpoints", "aggregate": "logits"},
    ):
        ask(client, four, **options)
    assert client.post("/predict", json={"images": [GOOD], "top_k": -1}).status_code == 400
    images = {name: drift(client, name)["images"] for name in ("midpoint", *pair, "endpoints", "leaning")}
    assert images == {"midpoint": 12, "endpoint-0": 0, "endpoint-1": 0, "endpoints": 8, "leaning": 0}
    statistics = [entry["name"] for entry in drift(client, "endpoints")["statistics"]]
    assert statistics == ["max_probability", "disagreement", "mean_intensity"]


def test_an_answer_without_a_member_is_not_watched(bundle, monkeypatch):
    logits = Predictor.logits

    def failing(self, name, images, run=None):
        if name == "endpoint-1" and len(images) == 3:
            raise RuntimeError("broken")
        return logits(self, name, images, run)

    monkeypatch.setattr(Predictor, "logits", failing)
    with served(bundle, quorum=1) as client:
        ask(client, USUAL[:3], model="endpoints")
        ask(client, USUAL[:2], model="endpoints")
        assert drift(client, "endpoints")["images"] == 2


def test_of_a_burst_the_first_images_to_come_are_watched(bundle, monkeypatch):
    monkeypatch.setattr("service.drift._SECONDS", 3600.0)
    with served(bundle, max_images=100) as client:
        for images in (USUAL[:70], USUAL[70:140], DARK[:100]):
            ask(client, images)
        assert [drift(client)[key] for key in ("images", "alarm")] == [100, False]
        ask(client, DARK[:100])
        assert [drift(client)[key] for key in ("images", "alarm")] == [200, True]


def test_other_routes_count_the_same(client):
    assert client.post("/v2/models/midpoint/infer", json={"inputs": [tensor(USUAL[:5])]}).status_code == 200
    assert drift(client)["images"] == 5


def test_without_calibration_images_only_changes_within_the_stream_are_seen_and_the_answer_says_so(client):
    for begin in range(0, 500, 100):
        ask(client, USUAL[begin : begin + 100], model="endpoint-0")
        found = drift(client, "endpoint-0")
    assert (found["calibration"], found["alarm"]) == (None, False)
    assert "only changes since the first image are seen" in found["advice"]
    ask(client, DARK[:100], model="endpoint-0")
    assert drift(client, "endpoint-0")["since"]["image"] > 500


def test_answers_are_the_same_to_the_byte_whether_they_are_watched_or_not(client, bundle):
    request = {"images": USUAL[:20].tolist(), "model": "endpoints", "return_members": True}
    with served(bundle, max_images=100, drift=False) as without:
        for document in (request, request | {"model": "midpoint", "return_members": False}):
            assert client.post("/predict", json=document).content == without.post("/predict", json=document).content
        refused = without.get("/models/midpoint/drift")
        assert refused.status_code == 404
        assert refused.json() == {"error": "nothing is watched for drift here; start the server without --no-drift"}
        assert gauges(without, "midpoint") == {}
    assert drift(client)["images"] == 20


def test_what_cannot_be_answered_is_refused(client, bundle):
    for method, path in (("GET", "/models/nobody/drift"), ("GET", "/models/no%20body/drift")):
        refused = client.request(method, path)
        assert refused.status_code == 404
        assert refused.json()["error"].endswith("this bundle has midpoint, endpoint-0, endpoint-1, endpoints, leaning")
    refused = client.post("/models/midpoint/drift/reset")
    assert (refused.status_code, "needs a token" in refused.json()["error"]) == (403, True)
    assert client.post("/models/midpoint/drift").status_code == 405
    with served(bundle, token="secret") as client:
        assert client.get("/models/midpoint/drift").status_code == 401
        assert client.post("/models/midpoint/drift/reset").status_code == 401
        assert client.post("/models/nobody/drift/reset", headers=TOKEN).status_code == 404


def test_a_reset_begins_the_stream_anew_and_no_other(bundle):
    with served(bundle, token="secret", max_images=100) as client:
        client.headers.update(TOKEN)
        ask(client, DARK[:90])
        ask(client, DARK[:7], model="endpoints")
        assert drift(client)["alarm"] is True
        answer = client.post("/models/midpoint/drift/reset").json()
        assert answer == drift(client)
        assert (answer["images"], answer["alarm"], answer["since"], answer["p_value"]) == (0, False, None, 1)
        assert gauges(client, "midpoint")["alarm"] == 0
        assert drift(client, "endpoints")["images"] == 7
        ask(client, DARK[:90])
        assert drift(client)["alarm"] is True


# What survives


@pytest.fixture
def state(tmp_path, monkeypatch) -> State:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return State.create()


def test_a_stream_survives_a_worker_and_a_reload_of_the_same_bundle_and_no_other(bundle, state, tmp_path):
    settings = Settings(bundle=bundle, device="cpu", threads=1)
    stage(settings, state)
    with served(bundle, state=state, max_images=100) as client:
        ask(client, DARK[:100])
    with served(bundle, state=state, max_images=100) as client:  # another worker, or the same one after its death
        since = drift(client)["since"]
        assert since["image"] < 30
        ask(client, USUAL[:5])
        stage(settings, state)
        served_now = state.current()
        until(lambda: served_now.name in state.workers())
        ask(client, USUAL[:5])
        assert (drift(client)["images"], drift(client)["since"]) == (110, since)
        assert gauges(client, "midpoint")["alarm"] == 1
        other = make_bundle(tmp_path / "other", temperatures={"midpoint": 2.0})
        stage(settings.model_copy(update={"bundle": other}), state)
        until(lambda: drift(client)["images"] == 0)
        assert drift(client)["alarm"] is False
        assert gauges(client, "midpoint")["alarm"] == 0


ADD = """
import sys
import numpy as np
from pathlib import Path
from service.drift_store import DriftStore
from subspace_serve.drift import Stream

store, random = DriftStore(Path(sys.argv[1]), "bundle"), np.random.default_rng()
print("begun", flush=True)
for turn in range(int(sys.argv[2])):
    with store.changing("model", lambda: Stream.begin(np.zeros((2, 256), np.int64))) as kept:
        kept.stream.add(np.full((2, 3), 7), random)
"""


@contextlib.contextmanager
def adding(folder: Path, turns: int) -> Iterator[subprocess.Popen[str]]:
    """Start a process that adds three images to a stream in each turn."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", ADD, str(folder), str(turns)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def stored(folder: Path) -> Stream:
    def begin() -> Stream:
        raise AssertionError("there is no stream")

    return DriftStore(folder, "bundle").read("model", begin).stream


def test_processes_add_to_one_stream(tmp_path):
    with adding(tmp_path, 100) as first, adding(tmp_path, 100) as second:
        assert (first.wait(60), second.wait(60)) == (0, 0)
    assert stored(tmp_path).images == 600
    assert stored(tmp_path).counts[:, 7].tolist() == [600, 600]


def test_a_process_that_is_killed_leaves_a_whole_stream_and_no_lock(tmp_path):
    for enough in (30, 300, 600):
        with adding(tmp_path, 10**9) as process:
            until(lambda n=enough: (tmp_path / "bundle-model.json").exists() and stored(tmp_path).images > n)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert stored(tmp_path).counts.sum() == 2 * stored(tmp_path).images


def test_a_file_that_cannot_be_read_begins_anew(tmp_path, caplog):
    store = DriftStore(tmp_path, "bundle")
    for text in ("", "{", "[]", '{"since": null}'):
        (tmp_path / "bundle-model.json").write_text(text)
        assert store.read("model", lambda: Stream.begin(np.zeros((2, 256), np.int64))).stream.images == 0
    assert "begins anew" in caplog.text


def test_on_a_full_disk_requests_are_answered_and_counted_when_there_is_space_again(bundle, state, monkeypatch):
    stage(Settings(bundle=bundle, device="cpu", threads=1), state)
    with served(bundle, state=state, max_images=100) as client:
        ask(client, USUAL[:10])
        assert drift(client)["images"] == 10
        replace = os.replace

        def full(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("service.drift_store.os.replace", full)
        ask(client, USUAL[:20])
        ask(client, USUAL[:5], model="endpoints")
        assert drift(client)["images"] == 10
        monkeypatch.setattr("service.drift_store.os.replace", replace)
        assert (drift(client)["images"], drift(client, "endpoints")["images"]) == (30, 5)

        def broken(file):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr("service.drift_store._text", broken)
        ask(client, USUAL[:1])
        refused = client.get("/models/midpoint/drift")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "Input/output error" in refused.json()["error"]
        assert client.get("/metrics").status_code == 200


# The client


def test_clients_read_and_reset_a_stream(bundle):
    with served(bundle, token="secret", max_images=100) as service:
        service.headers.update(TOKEN)
        ask(service, DARK[:100])
        document = drift(service)

        with Client(URL, token="secret", transport=through(service)) as client:
            found = client.drift("midpoint")
            assert (found.model, found.images, found.alarm) == ("midpoint", 100, True)
            assert found.since_image == document["since"]["image"]
            assert found.since.isoformat().replace("+00:00", "Z") == document["since"]["time"]
            assert found.statistics == {entry["name"]: entry["log10_wealth"] for entry in document["statistics"]}
            assert (found.calibration_images, found.p_value) == (600, document["p_value"])
            assert client.drift("endpoint-0").calibration_images == 0
            with pytest.raises(RequestRefused, match="there is no model 'no body.'"):
                client.drift("no body?")
            assert client.reset_drift("midpoint").since is None

        async def asynchronously() -> list[int]:
            async with AsyncClient(URL, token="secret", transport=through(service)) as client:
                return [(await client.drift("midpoint")).images, (await client.reset_drift("endpoints")).images]

        assert asyncio.run(asynchronously()) == [0, 0]
