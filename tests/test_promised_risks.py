"""Abstaining of a service, a client and `predict`: by which threshold, for whose answers, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import LABELS, make_bundle, random_images
from client_transport import URL, through
from command_line import invoke
from image_files import png
from PIL import Image
from service_client import IMAGES, expected, served, tensor
from starlette.testclient import TestClient

from subspace_serve.answers import apply_temperature
from subspace_serve.bundle.abstention import Abstention, AbstentionLevel
from subspace_serve.client import Client, ClientError
from subspace_serve.client.wire import Options

LEVELS = ((0.8, 200, 0), (0.6, 400, 2), (0.45, 700, 40), (-1.0, 1000, 250))
ABSTENTION = Abstention(
    data="x",
    count=1000,
    delta=0.05,
    levels=tuple(
        AbstentionLevel(threshold=threshold, answered=answered, wrong=wrong) for threshold, answered, wrong in LEVELS
    ),
)
FEW = Abstention(data="x", count=10, delta=0.05, levels=(AbstentionLevel(threshold=-1.0, answered=10, wrong=0),))
MODELS = {"midpoint": ABSTENTION, "endpoint-0": FEW, "endpoints": ABSTENTION}
MANY = random_images(40, seed=9)
PAIR = ["endpoint-0", "endpoint-1"]
REASON = (
    "on 10 images no threshold proves an error rate of at most 0.05 with a probability of 0.95, for which 59 answers "
    "without a mistake are the least"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    promises = {name: {"abstention": own} for name, own in MODELS.items()}
    return make_bundle(tmp_path_factory.mktemp("risks") / "bundle", promises=promises, temperatures={"midpoint": 2.0})


@pytest.fixture(scope="module")
def client(bundle) -> Iterator[TestClient]:
    with served(bundle, max_images=64) as client:
        yield client


def answers(model: str) -> np.ndarray:
    if model == "endpoints":
        return (expected("endpoint-0", MANY) + expected("endpoint-1", MANY)) / 2
    return apply_temperature(expected(model, MANY), 2.0 if model == "midpoint" else 1.0)


@pytest.mark.parametrize("model", ["midpoint", "endpoints"])
@pytest.mark.parametrize(("max_risk", "threshold"), [(0.03, 0.6), (0.1, 0.45), (0.5, -1.0)])
def test_every_route_abstains_below_the_proven_threshold(client, model, max_risk, threshold):
    wanted = (answers(model).max(axis=1) <= threshold).tolist()
    assert model == "midpoint" or threshold < 0.5 or 0 < sum(wanted) < len(MANY)
    request = {"images": MANY.tolist(), "model": model, "max_risk": max_risk, "top_k": len(LABELS)}
    document = client.post("/predict", json=request).json()
    assert [entry["abstained"] for entry in document["predictions"]] == wanted
    assert {len(entry["labels"]) for entry in document["predictions"]} == {len(LABELS)}  # the labels stay
    assert "abstained_reason" not in document
    files = [("images", png(image)) for image in MANY]
    form = client.post("/predict_image", files=files, data={"model": model, "max_risk": str(max_risk)}).json()
    assert [entry["abstained"] for entry in form["predictions"]] == wanted
    for given in (max_risk, str(max_risk)):
        request = {"inputs": [tensor(MANY)], "parameters": {"max_risk": given}}
        parameters = client.post(f"/v2/models/{model}/infer", json=request).json()["parameters"]
        assert json.loads(parameters["abstained"]) == wanted
        assert not {"abstained_reason", "sets", "set_reason"} & parameters.keys()


def test_where_no_threshold_reaches_it_everything_abstains_and_says_so(client):
    request = {"images": MANY.tolist(), "model": "endpoint-0", "max_risk": 0.05}
    document = client.post("/predict", json=request).json()
    assert [entry["abstained"] for entry in document["predictions"]] == [True] * len(MANY)
    assert document["abstained_reason"] == REASON
    document = client.post("/predict", json=request | {"model": "midpoint", "max_risk": 1e-320}).json()
    assert [entry["abstained"] for entry in document["predictions"]] == [True] * len(MANY)
    parameters = client.post(
        "/v2/models/endpoint-0/infer", json={"inputs": [tensor(IMAGES)], "parameters": {"max_risk": 0.05}}
    ).json()["parameters"]
    assert (json.loads(parameters["abstained"]), parameters["abstained_reason"]) == ([True] * len(IMAGES), REASON)


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"members": PAIR}, "this answer is another"),
        ({"model": "endpoints", "weights": [1, 3]}, "this answer is another"),
        ({"model": "endpoints", "aggregate": "logits"}, "this answer is another"),
        ({"model": "leaning"}, "the bundle keeps none for this model"),
    ],
)
def test_of_another_answer_nothing_is_promised(client, choice, reason):
    request = {"images": MANY.tolist(), "max_risk": 0.05, "coverage": 0.9, **choice}
    document = client.post("/predict", json=request).json()
    assert {(entry["abstained"], entry["set"]) for entry in document["predictions"]} == {(None, None)}
    assert document["abstained_reason"].startswith("a promised error rate ")
    assert reason in document["abstained_reason"]
    assert reason in document["set_reason"]


def test_a_request_without_a_risk_is_answered_byte_for_byte_as_from_a_bundle_without_abstention(client, tmp_path):
    plain = make_bundle(tmp_path / "bundle", temperatures={"midpoint": 2.0})
    with served(plain) as other:
        for path, request in (
            ("/predict", {"images": IMAGES.tolist(), "model": "endpoints", "return_members": True}),
            ("/v2/models/endpoints/infer", {"inputs": [tensor(IMAGES)]}),
        ):
            own, older = client.post(path, json=request), other.post(path, json=request)
            assert own.status_code == 200
            assert own.content == older.content
        listed, before = client.get("/models").json(), other.get("/models").json()
    assert listed | {"bundle": None} == before | {"bundle": None}


def test_the_client_passes_a_risk_and_returns_what_abstains(client):
    wanted = (answers("midpoint").max(axis=1) <= 0.6).tolist()
    files = [png(image) for image in MANY]
    with Client(URL, transport=through(client)) as asking:
        for images in (MANY, files, [*files[:20], *MANY[20:]]):
            answer = asking.predict(images, max_risk=0.03)
            assert [own.abstained for own in answer.predictions] == wanted
            assert answer.abstained_reason is None
            answer = asking.predict(images, model="endpoint-0", max_risk=0.05)
            assert [own.abstained for own in answer.predictions] == [True] * len(MANY)
            assert answer.abstained_reason == REASON
            answer = asking.predict(images, model="leaning", max_risk=0.05)
            assert [own.abstained for own in answer.predictions] == [None] * len(MANY)
            assert "keeps none" in (answer.abstained_reason or "")
            assert [own.abstained for own in asking.predict(images).predictions] == [None] * len(MANY)
    with pytest.raises(ClientError, match="max_risk is 0; give a number between 0 and 1, such as 0.05"):
        Options(max_risk=0)


def test_predict_prints_what_abstains(bundle, tmp_path):
    files: list[object] = []
    for index, image in enumerate(MANY[:6]):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
        files += ["--image", tmp_path / f"{index}.png"]

    def predicted(*words: object) -> Any:
        return invoke("predict", bundle, *files, *words)

    rows = [line.split() for line in predicted("--max-risk", 0.03, "--top-k", 1).stdout.splitlines()[2:]]
    surest = answers("midpoint").max(axis=1)[:6]
    assert [row[4] for row in rows] == ["yes" if own <= 0.6 else "no" for own in surest]
    document = json.loads(predicted("--max-risk", 0.03, "--json", "-").stdout)
    assert [entry["abstained"] for entry in document["predictions"]] == (surest <= 0.6).tolist()
    result = predicted("--max-risk", 0.05, "--model", "endpoint-0")
    assert REASON in result.stderr
    assert {line.split()[4] for line in result.stdout.splitlines()[2::3]} == {"yes"}
    assert predicted("--max-risk", 0).exit_code == 2
