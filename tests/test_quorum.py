"""Ensembles whose members fail: who answers, and what the answer says."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle
from service_client import GOOD, IMAGES, expected, held_up, poisoned, probabilities, served, tensor

from service.openapi.examples import PREDICT_ANSWERS
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.selection import Selection, SelectionError

pytestmark = pytest.mark.slow

ALL = {"images": IMAGES.tolist(), "members": ["midpoint", "endpoint-0", "endpoint-1"], "weights": [1, 1, 2]}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("quorum") / "bundle", temperatures={"endpoints": 2.0})


def test_the_rest_answers_with_their_own_weights(bundle, monkeypatch):
    with served(bundle, quorum=2) as client, poisoned(monkeypatch, "endpoint-0", np.nan):
        response = client.post("/predict", json=ALL | {"return_members": True})
        page = client.get("/metrics").text
    mixture = (expected("midpoint") + 2 * expected("endpoint-1")) / 3
    np.testing.assert_allclose(probabilities(response), mixture, atol=1e-6)
    document = response.json()
    assert document["members"] == ["midpoint", "endpoint-1"]
    np.testing.assert_allclose(document["weights"], [1 / 3, 2 / 3])
    assert document["missing"] == {"endpoint-0": "not finite"}
    assert [member["model"] for member in document["predictions"][0]["members"]] == ["midpoint", "endpoint-1"]
    assert 'subspace_serve_member_failures_total{point="endpoint-0",reason="not finite"} 1.0' in page


def test_what_was_not_fitted_has_no_temperature(bundle, monkeypatch):
    with served(bundle, quorum=1) as client:
        assert client.post("/predict", json={"images": [GOOD], "model": "endpoints"}).json()["temperature"] == 2.0
        with poisoned(monkeypatch, "endpoint-1", np.inf):
            response = client.post("/predict", json={"images": IMAGES.tolist(), "model": "endpoints"})
    assert response.json()["temperature"] == 1.0
    assert response.json()["model"] == "endpoints"
    np.testing.assert_allclose(probabilities(response), expected("endpoint-0"), atol=1e-6)


def test_a_member_that_misses_the_deadline_is_left_out(bundle, monkeypatch):
    with served(bundle, quorum=2, concurrency=3, deadline=0.5) as client, held_up(monkeypatch, "endpoint-1"):
        start = time.monotonic()
        response = client.post("/predict", json=ALL)
        assert time.monotonic() - start >= 0.5
    assert response.json()["missing"] == {"endpoint-1": "missed the deadline"}
    assert PREDICT_ANSWERS["ensemble"]["value"]["missing"] == {"endpoint-1": "missed the deadline"}
    np.testing.assert_allclose(probabilities(response), (expected("midpoint") + expected("endpoint-0")) / 2, atol=1e-6)


def test_images_without_an_answer_are_not_counted(bundle, monkeypatch):
    with served(bundle, concurrency=2, deadline=0.5) as client:
        with held_up(monkeypatch, "endpoint-1"):
            assert client.post("/predict", json={"images": [GOOD], "model": "endpoints"}).status_code == 504
        with poisoned(monkeypatch, "endpoint-1", np.nan):
            assert client.post("/predict", json={"images": [GOOD], "model": "endpoints"}).status_code == 503
        assert client.post("/predict", json={"images": [GOOD], "model": "midpoint"}).status_code == 200
        page = client.get("/metrics").text
    assert re.findall("subspace_serve_images_total{.*", page) == ['subspace_serve_images_total{model="midpoint"} 1.0']
    assert re.findall("subspace_serve_members_count{.*", page) == ['subspace_serve_members_count{model="midpoint"} 1.0']


@pytest.mark.parametrize("quorum", [0, 2])
def test_below_the_quorum_it_is_503(bundle, monkeypatch, quorum):
    with served(bundle, quorum=quorum) as client, poisoned(monkeypatch, "endpoint-1", np.nan):
        for request in (
            ALL | {"members": ALL["members"][1:], "weights": None},
            {"images": [GOOD], "model": "endpoints"},
        ):
            response = client.post("/predict", json=request)
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
            # The other is not waited for, and may not have answered yet.
            message = r"[01] of 2 members answered and 2 are needed \(endpoint-1: not finite\)"
            assert re.fullmatch(message, response.json()["error"])
        # Others are not concerned.
        assert client.post("/predict", json={"images": [GOOD]}).status_code == 200


def test_weights_that_were_all_with_the_missing_are_503(bundle, monkeypatch):
    request = {"images": [GOOD], "members": ["endpoint-0", "endpoint-1"], "weights": [0, 1]}
    with served(bundle, quorum=1) as client, poisoned(monkeypatch, "endpoint-1", np.nan):
        assert client.post("/predict", json=request).status_code == 503


def test_the_protocol_says_so_too(bundle, monkeypatch):
    with served(bundle, quorum=1) as client, poisoned(monkeypatch, "endpoint-1", np.nan):
        answer = client.post("/v2/models/endpoints/infer", json={"inputs": [tensor(IMAGES[:1])]}).json()
    assert json.loads(answer["parameters"]["missing"]) == {"endpoint-1": "not finite"}
    assert json.loads(answer["parameters"]["members"]) == ["endpoint-0"]


def test_batches_give_each_request_its_own_answer(bundle, monkeypatch):
    """With batching, whichever requests are joined: each gets what numpy says of its own images."""
    from concurrent.futures import ThreadPoolExecutor

    from bundle_factory import random_images

    images = random_images(60, seed=3)
    answers = (expected("endpoint-0", images) + expected("endpoint-1", images)) / 2
    logits, sizes = Predictor.logits, []

    def counted(self, name, images, run=None):
        sizes.append(len(images))
        return logits(self, name, images, run)

    monkeypatch.setattr(Predictor, "logits", counted)

    def ask(start: int) -> None:
        own = images[start : start + 2]
        request = {"images": own.tolist(), "members": ["endpoint-0", "endpoint-1"]}
        response = client.post("/predict", json=request)
        np.testing.assert_allclose(probabilities(response), answers[start : start + 2], atol=1e-6)

    options = {"batching": "on", "max_batch": 8, "batch_delay": 0.02, "concurrency": 1}
    with served(bundle, **options) as client, client, ThreadPoolExecutor(16) as clients:
        list(clients.map(ask, range(0, 60, 2)))
    assert max(sizes) > 2
    assert max(sizes) <= 8


def test_a_selection_without_some_of_its_members():
    selection = Selection("pair", ("a", "b", "c"), (0.5, 0.25, 0.25), "logits", temperature=3.0)
    assert selection.answered_by(["a", "b", "c"]) is selection
    assert selection.answered_by({"c", "a"}) == Selection("pair", ("a", "c"), (2 / 3, 1 / 3), "logits")
    with pytest.raises(SelectionError):
        Selection(None, ("a", "b"), (1.0, 0.0), "logits").answered_by(["b"])
