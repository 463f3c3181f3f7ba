"""The HTTP contract: every status, and every answer against numpy."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import json
import logging
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
import pytest
from bundle_factory import LABELS, expected_logits, make_bundle, random_images
from image_files import png
from service_client import GOOD, IMAGES, JSON, expected, held_up, post_slowly, probabilities, served, text
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import Engine
from service.metrics import Metrics
from service.settings import Settings
from subspace_serve.answers import softmax
from subspace_serve.bundle.predict import Predictor


@pytest.fixture(scope="module")
def client(bundle):
    with served(bundle, max_body=200_000, max_pixels=10_000, max_images=8) as client:
        yield client


def test_pixels_are_answered_by_the_default(client):
    response = client.post("/predict", json={"images": IMAGES.tolist()})
    np.testing.assert_allclose(probabilities(response), expected("midpoint"), atol=1e-6)
    document = response.json()
    assert document["model"] == "midpoint"
    assert document["members"] == ["midpoint"]
    assert document["aggregate"] is None


def test_ensemble_of_a_request(client):
    request = {"images": IMAGES.tolist(), "members": ["endpoint-0", "midpoint"], "weights": [3, 1]}
    response = client.post("/predict", json=request | {"aggregate": "logits", "return_members": True})
    logits = 0.75 * expected_logits("endpoint-0", IMAGES) + 0.25 * expected_logits("midpoint", IMAGES)
    np.testing.assert_allclose(probabilities(response), softmax(logits), atol=1e-6)
    document = response.json()
    assert document["model"] is None
    assert document["members"] == ["endpoint-0", "midpoint"]
    assert document["weights"] == [0.75, 0.25]
    assert document["aggregate"] == "logits"
    first = document["predictions"][0]
    assert [member["model"] for member in first["members"]] == ["endpoint-0", "midpoint"]
    members = np.stack([expected("endpoint-0"), expected("midpoint")])[:, 0]
    mixture = 0.75 * members[0] + 0.25 * members[1]
    entropy = -(members * np.log(members)).sum(axis=1)
    information = -(mixture * np.log(mixture)).sum() - (0.75 * entropy[0] + 0.25 * entropy[1])
    assert first["mutual_information"] == pytest.approx(information, abs=1e-6)
    distances = np.abs(members - mixture).sum(axis=1) / 2
    assert first["disagreement"] == pytest.approx(0.75 * distances[0] + 0.25 * distances[1], abs=1e-6)


def test_temperatures_act_on_the_answers_that_they_were_fitted_for(tmp_path):
    folder = make_bundle(tmp_path / "bundle", temperatures={"midpoint": 2.0, "endpoints": 0.5})
    mixture = (expected("endpoint-0") + expected("endpoint-1")) / 2
    answers = [
        ({}, 2.0, softmax(expected_logits("midpoint", IMAGES) / 2)),
        ({"model": "endpoints"}, 0.5, mixture**2 / (mixture**2).sum(axis=1, keepdims=True)),
        ({"members": ["endpoint-0", "endpoint-1"]}, 1.0, mixture),
        ({"model": "endpoints", "members": ["endpoint-1"]}, 1.0, expected("endpoint-1")),
    ]
    with served(folder) as client:
        for options, temperature, answer in answers:
            response = client.post("/predict", json={"images": IMAGES.tolist()} | options)
            np.testing.assert_allclose(probabilities(response), answer, atol=1e-6)
            assert response.json()["temperature"] == temperature
        request = {"images": IMAGES.tolist(), "model": "endpoints", "return_members": True}
        first = client.post("/predict", json=request).json()["predictions"][0]["members"][0]
        assert first["labels"][0]["probability"] == pytest.approx(expected("endpoint-0")[0].max(), abs=1e-6)
        models = {model["name"]: model["temperature"] for model in client.get("/models").json()["models"]}
    assert models == {"midpoint": 2.0, "endpoint-0": 1.0, "endpoint-1": 1.0, "endpoints": 0.5, "leaning": 1.0}


def test_image_files_in_json_and_in_a_form_answer_alike(client):
    files = [png(image) for image in IMAGES]
    in_json = client.post("/predict", json={"images": [text(file) for file in files], "model": "endpoints"})
    in_form = client.post(
        "/predict_image",
        files=[("images", (f"{index}.png", file)) for index, file in enumerate(files)],
        data={"model": "endpoints"},
    )
    mixture = (expected("endpoint-0") + expected("endpoint-1")) / 2
    np.testing.assert_allclose(probabilities(in_json), mixture, atol=1e-6)
    assert in_json.json() == in_form.json()


def test_options_of_a_form(client):
    options = {"members": "endpoint-1, endpoint-0", "weights": "1,3", "top_k": "1", "return_members": "true"}
    document = client.post("/predict_image", files={"images": png(IMAGES[0])}, data=options).json()
    assert document["members"] == ["endpoint-1", "endpoint-0"]
    assert document["weights"] == [0.25, 0.75]
    (entry,) = document["predictions"]
    assert len(entry["labels"]) == 1
    assert len(entry["members"]) == 2
    repeated = client.post(
        "/predict_image", files={"images": png(IMAGES[0])}, data={"members": ["endpoint-1", "endpoint-0"]}
    )
    assert repeated.json()["members"] == ["endpoint-1", "endpoint-0"]


def test_pixels_and_files_may_be_mixed_and_files_are_resized(client):
    large = np.repeat(np.repeat(IMAGES[0], 4, axis=0), 4, axis=1)
    images = [IMAGES[0].tolist(), text(png(large))]
    answers = probabilities(client.post("/predict", json={"images": images}))
    np.testing.assert_allclose(answers[0], expected("midpoint")[0], atol=1e-6)
    np.testing.assert_allclose(answers[1], expected("midpoint")[0], atol=0.05)
    refused = client.post("/predict", json={"images": images, "resize": False})
    assert refused.status_code == 400
    assert "images[1]: an image is 20x16 pixels, the model takes 5x4" in refused.json()["error"]


def test_float_models(tmp_path):
    images = random_images(2, dtype="float32")
    with served(make_bundle(tmp_path / "bundle", dtype="float32")) as client:
        answer = client.post("/predict", json={"images": images.tolist()})
        np.testing.assert_allclose(probabilities(answer), expected("midpoint", images), atol=1e-6)
        answer = client.post("/predict", json={"images": [text(png(IMAGES[0]))]})
        same_pixels = (IMAGES[:1].transpose(0, 3, 1, 2) / 255).astype(np.float32)
        np.testing.assert_allclose(probabilities(answer), expected("midpoint", same_pixels), atol=1e-6)
        images[0, 0, 0, 0] = 1.5
        assert client.post("/predict", json={"images": images.tolist()}).status_code == 400


def test_models(client):
    document = client.get("/models").json()
    assert document["default"] == "midpoint"
    assert document["labels"] == list(LABELS)
    assert document["input"]["height"] == 4
    models = {model["name"]: model for model in document["models"]}
    assert list(models) == ["midpoint", "endpoint-0", "endpoint-1", "endpoints", "leaning"]
    assert models["midpoint"]["alpha"] == 0.5
    assert models["leaning"]["aggregate"] == "logits"


def test_configured_ensemble_is_the_default(bundle):
    settings = Settings.from_environment(
        {
            "SUBSPACE_SERVE_ENSEMBLES": '{"pair": {"members": ["endpoint-0", "endpoint-1"], "weights": [1, 0]}}',
            "SUBSPACE_SERVE_DEFAULT": "pair",
        }
    )
    with served(bundle, ensembles=settings.ensembles, default=settings.default) as client:
        response = client.post("/predict", json={"images": IMAGES.tolist()})
    assert response.json()["model"] == "pair"
    np.testing.assert_allclose(probabilities(response), expected("endpoint-0"), atol=1e-6)


def changed(value, *place):
    """Return the pixels of one image as lists, with the value at a place replaced."""
    image = IMAGES[0].tolist()
    row = image
    for index in place[:-1]:
        row = row[index]
    row[place[-1]] = value
    return image


BAD_REQUESTS = {
    "no images": ({}, "images: Field required"),
    "empty list": ({"images": []}, "images"),
    "not a list": ({"images": "x"}, "images"),
    "a number": ({"images": [1]}, "images[0]: an image must be nested lists"),
    "null": ({"images": [None]}, "images[0]: an image must be nested lists"),
    "one rank too few": ({"images": GOOD}, "images[0]: an image must be nested lists"),
    "one rank too many": ({"images": [[GOOD]]}, "images[0]: an image must be nested lists"),
    "another layout": ({"images": IMAGES.transpose(0, 3, 1, 2).tolist()}, "got pixels of shape (3, 4, 5), expected"),
    "another size": ({"images": random_images(1)[:, :3].tolist()}, "got pixels of shape (3, 5, 3)"),
    "ragged": ({"images": [changed([0, 0], 0, 0)]}, "equal lengths"),
    "too great": ({"images": [changed(256, 0, 0, 0)]}, "less than or equal to 255"),
    "negative": ({"images": [changed(-1, 0, 0, 0)]}, "greater than or equal to 0"),
    "huge": ({"images": [changed(10**40, 0, 0, 0)]}, "images[0]"),
    "fraction": ({"images": [changed(0.5, 0, 0, 0)]}, "valid integer"),
    "float that is whole": ({"images": [changed(1.0, 0, 0, 0)]}, "valid integer"),
    "boolean": ({"images": [changed(True, 0, 0, 0)]}, "valid integer"),
    "text for a pixel": ({"images": [changed("1", 0, 0, 0)]}, "valid integer"),
    "second image": ({"images": [GOOD, changed(None, 0, 0, 0)]}, "images[1]"),
    "not base64": ({"images": ["***"]}, "base64"),
    "address": ({"images": ["http://127.0.0.1:9/a.png"]}, "addresses are not fetched"),
    "file address": ({"images": ["file:///etc/passwd"]}, "addresses are not fetched"),
    "not an image": ({"images": [text(b"hello")]}, "images[0]: an image cannot be decoded"),
    "half an image": ({"images": [text(png(IMAGES[0])[:50])]}, "cannot be decoded"),
    "too many images": ({"images": [GOOD] * 9}, "got 9 images, the limit is 8"),
    "unknown field": ({"images": [GOOD], "colour": "red"}, "colour: Extra inputs are not permitted"),
    "mistyped field": (
        {"images": [GOOD], "modle": "midpoint", "topk": 1},
        "modle: Extra inputs are not permitted (did you mean model?); "
        "topk: Extra inputs are not permitted (did you mean top_k?)",
    ),
    "image for images": (
        {"image": [GOOD]},
        "images: Field required; image: Extra inputs are not permitted (did you mean images?)",
    ),
    "model not text": ({"images": [GOOD], "model": 1}, "model: Input should be a valid string"),
    "empty members": ({"images": [GOOD], "members": []}, "members is empty"),
    "member neither name nor place": ({"images": [GOOD], "members": [True]}, "members.0"),
    "members not a list": ({"images": [GOOD], "members": "midpoint"}, "members: Input should be a valid list"),
    "member twice": ({"images": [GOOD], "members": ["midpoint"] * 2}, "named twice"),
    "weight too few": ({"images": [GOOD], "model": "endpoints", "weights": [1]}, "1 weights for 2 members"),
    "weight negative": ({"images": [GOOD], "model": "endpoints", "weights": [1, -1]}, "not negative"),
    "weight boolean": ({"images": [GOOD], "model": "endpoints", "weights": [True, 1]}, "weights.0"),
    "weights of a point": ({"images": [GOOD], "weights": [1]}, "midpoint is a single point"),
    "aggregate": ({"images": [GOOD], "model": "endpoints", "aggregate": "mean"}, "aggregate"),
    "top_k 0": ({"images": [GOOD], "top_k": 0}, "top_k"),
    "top_k boolean": ({"images": [GOOD], "top_k": True}, "top_k"),
    "top_k text": ({"images": [GOOD], "top_k": "5"}, "top_k"),
    "return_members": ({"images": [GOOD], "return_members": 1}, "return_members"),
    "a list": ([GOOD], "the request is not valid"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_requests_are_400(client, name):
    request, message = BAD_REQUESTS[name]
    response = client.post("/predict", json=request)
    assert response.status_code == 400
    assert response.json().keys() == {"error"}
    assert message in response.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b'{"images": NaN}',
        b'{"images": [[[[NaN]]]]}',
        b'{"images": [[[[Infinity]]]]}',
        b'{"images": [[[[1e999]]]]}',
        b'{"images": "\\ud800"}',
        b'{"images": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b"[" * 100_000,
    ],
    ids=lambda body: body[:25].decode("latin-1"),
)
def test_bodies_that_are_not_json_are_400(client, body):
    response = client.post("/predict", content=body, headers=JSON)
    assert response.status_code == 400
    assert response.json().keys() == {"error"}


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ('{"images": [GOOD], "images": [GOOD]}', "images"),
        ('{"images": [GOOD], "model": "midpoint", "top_k": 1, "model" : "midpoint"}', "model"),
        ('{"images": [GOOD], "model": "midpoint", "mod\\u0065l": "midpoint"}', "model"),
        ('{"images": [[{"a:b": 1, "a:b": 2}]]}', "a:b"),
    ],
)
def test_keys_that_are_given_twice_are_named(client, body, key):
    response = client.post("/predict", content=body.replace("GOOD", json.dumps(GOOD)), headers=JSON)
    assert response.status_code == 400
    assert response.json() == {"error": f"the key {key!r} is given twice; give it once"}


def test_colons_in_text_are_no_keys(client):
    response = client.post("/predict", json={"images": [GOOD], "model": "a:b"})
    assert response.status_code == 404
    response = client.post("/predict", json={"images": ["https://example.org"]})
    assert "addresses are not fetched" in response.json()["error"]


def test_no_time_is_spent_on_what_many_or_long_names_were_meant_for(client, monkeypatch):
    compared = []

    def get_close_matches(name, known, n):
        compared.append(name)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", get_close_matches)
    request = {"images": [GOOD], "m" * 100_000: 1} | {f"model{index}": 1 for index in range(900)}
    response = client.post("/predict", json=request)
    assert response.status_code == 400
    assert response.json()["error"].endswith("; and 898 more")
    assert compared == ["model0", "model1"]


def test_options_in_the_address_are_400(client):
    response = client.post("/predict?model=endpoints", json={"images": [GOOD]})
    assert response.status_code == 400
    assert "options go into the body" in response.json()["error"]


@pytest.mark.parametrize(
    ("files", "data", "message"),
    [
        ([("images", png(IMAGES[0]))], {"colour": "red"}, "colour: Extra inputs"),
        ([("images", png(IMAGES[0]))], {"top_k": "many"}, "top_k"),
        ([("images", png(IMAGES[0]))], {"weights": "nan,1", "model": "endpoints"}, "weights"),
        ([("images", png(IMAGES[0]))], {"model": ["endpoints", "midpoint"]}, "is given twice"),
        ([("images", png(IMAGES[0])), ("model", b"midpoint")], {}, "must be text"),
        (
            [("image", png(IMAGES[0]))],
            {},
            "the form's field 'image' must be text (only `images` are files); did you mean images?",
        ),
        ([("Images", png(IMAGES[0]))], {}, "did you mean images?"),
        ([("photo", png(IMAGES[0]))], {}, "the form's field 'photo' must be text (only `images` are files)"),
        (
            [("images", png(IMAGES[0]))],
            {"modle": "midpoint"},
            "modle: Extra inputs are not permitted (did you mean model?)",
        ),
        ([("images", png(IMAGES[0]))], {"image": "x"}, "image: Extra inputs are not permitted (did you mean images?)"),
        ([("images", png(IMAGES[0])), ("images", b"x")], {}, "images[1]: an image cannot be decoded"),
        ([("images", png(IMAGES[0]))] * 9, {}, "Too many files"),
    ],
)
def test_bad_forms_are_400(client, files, data, message):
    files = [(name, ("name", content)) for name, content in files]
    response = client.post("/predict_image", files=files, data=data)
    assert response.status_code == 400
    assert message in response.json()["error"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"x"),
        ("multipart/form-data; boundary=b", b""),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=images\r\n\r\nx\r\n--b--\r\n",
        ),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n: \r\n\r\nx\r\n--b--\r\n"),
    ],
)
def test_broken_forms_are_400(client, content_type, body):
    response = client.post("/predict_image", content=body, headers={"content-type": content_type})
    assert response.status_code == 400, response.text
    assert response.json().keys() == {"error"}


@pytest.mark.parametrize(
    "request_",
    [
        {"model": "nobody"},
        {"model": "x" * 9999},
        {"members": ["nobody"]},
        {"model": "endpoints", "members": ["midpoint"]},
    ],
)
def test_unknown_models_and_members_are_404(client, request_):
    response = client.post("/predict", json={"images": [GOOD]} | request_)
    assert response.status_code == 404
    assert len(response.json()["error"]) < 300


def test_unknown_routes_are_404_and_wrong_methods_405(client):
    for path in ("/nothing", "/predict/", "/v2/models", "/v2/models/midpoint/nothing", "/docs"):
        response = client.get(path)
        assert response.status_code == 404
        assert response.json() == {"error": f"there is no route '{path}'"}
    response = client.get("/predict")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json() == {"error": "/predict does not take GET; it takes POST"}
    assert client.post("/models").status_code == 405


def test_an_unknown_route_is_404_whatever_its_query_holds(client):
    async def with_raw_query(scope, receive, send):
        await client.app({**scope, "query_string": b"\xff"}, receive, send)

    response = TestClient(with_raw_query).get("/nothing")
    assert (response.status_code, response.json()) == (404, {"error": "there is no route '/nothing'"})


def test_the_root_leads_to_the_playground_behind_a_prefix_too(bundle, caplog):
    with caplog.at_level(logging.INFO, "subspace_serve.access"), served(bundle) as client:
        answer = client.get("/", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"], answer.content) == (307, "playground", b"")
        assert client.head("/", follow_redirects=False).status_code == 307
        assert client.post("/").status_code == 405
        page = client.get("/playground").content
        behind_proxy = TestClient(Starlette(routes=[Mount("/models/digits", client.app)]))
        for asked, prefix in ((client, ""), (behind_proxy, "/models/digits")):
            followed = asked.get(f"{prefix}/")
            assert (followed.url.path, followed.content) == (f"{prefix}/playground", page)
        metrics = client.get("/metrics").text
    assert 'subspace_serve_requests_total{method="GET",route="/",status="307"} 2.0' in metrics
    first = json.loads(caplog.records[0].message)
    assert (first["path"], first["status"]) == ("/", 307)


def test_bodies_and_images_over_their_limits_are_413(client):
    response = client.post("/predict", content=b" " * 200_001, headers=JSON)
    assert response.status_code == 413
    assert "limit of 200000 bytes" in response.json()["error"]
    response = client.post("/predict", content=iter([b" " * 150_000] * 2), headers=JSON)
    assert response.status_code == 413
    response = client.post("/predict_image", files={"images": b" " * 200_001})
    assert response.status_code == 413
    bomb = png(np.zeros((101, 100), dtype=np.uint8))
    for response in (
        client.post("/predict", json={"images": [GOOD, text(bomb)]}),
        client.post("/predict_image", files={"images": bomb}),
    ):
        assert response.status_code == 413
        assert "100x101 pixels, the limit is 10000" in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/predict", {}),
        ("/predict", {"content-type": "text/plain"}),
        ("/predict", {"content-type": "multipart/form-data; boundary=b"}),
        ("/predict", {"content-type": "application/vnd.bentoml+pickle"}),
        ("/predict_image", {"content-type": "application/json"}),
        ("/predict_image", {"content-type": "image/png"}),
    ],
)
def test_content_types_that_are_not_served_are_415(client, path, headers):
    response = client.post(path, content=b"{}", headers=headers)
    assert response.status_code == 415
    assert response.json().keys() == {"error"}


@pytest.mark.parametrize("encoding", ["identity", "identity, identity", "Identity ,, IDENTITY", "", " , "])
def test_an_encoding_that_changes_nothing_is_taken(client, encoding):
    response = client.post("/predict", json={"images": [GOOD]}, headers={"content-encoding": encoding})
    assert response.status_code == 200


@pytest.mark.parametrize("encodings", [["gzip"], ["identity, gzip"], ["identity", "br"], ["identity;q=1"]])
def test_other_encodings_are_415(client, encodings):
    headers = [("content-type", "application/json"), *(("content-encoding", encoding) for encoding in encodings)]
    response = client.post("/predict", content=b"{}", headers=headers)
    assert response.status_code == 415
    assert repr(", ".join(encodings)) in response.json()["error"]


def test_before_the_bundle_is_loaded_requests_are_503(bundle):
    metrics = Metrics()
    engine = Engine(Settings(bundle=bundle, device="cpu"), metrics)
    client = TestClient(create_app(engine, metrics))
    for response in (
        client.get("/models"), client.post("/predict", json={"images": [GOOD]}), client.get("/readyz"),
        client.get("/v2/health/ready"), client.get("/v2/models/midpoint"),
    ):  # fmt: skip
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
    assert client.get("/livez").status_code == 200
    assert not engine.ready
    engine.start().join()
    assert engine.ready
    assert client.post("/predict", json={"images": [GOOD]}).status_code == 200
    engine.close()


def test_a_bundle_that_cannot_be_loaded_is_a_failure(tmp_path):
    engine = Engine(Settings(bundle=tmp_path), Metrics())
    engine.start().join()
    assert not engine.ready
    assert "has no manifest.json" in engine.failure


def test_a_full_queue_is_429(bundle, monkeypatch):
    with served(bundle, concurrency=1, queue=1) as client, ThreadPoolExecutor(8) as clients, client:
        with held_up(monkeypatch):
            answers = [clients.submit(client.post, "/predict", json={"images": [GOOD]}) for _ in range(8)]
            # Six are refused while the first is held up and the second waits.
            refused = [answer.result() for answer in itertools.islice(as_completed(answers, timeout=10), 6)]
            assert {answer.status_code for answer in refused} == {429}
            assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert sorted(answer.result().status_code for answer in answers) == [200] * 2 + [429] * 6
        assert client.post("/predict", json={"images": [GOOD]}).status_code == 200


def test_a_deadline_that_passes_is_504_and_its_work_counts_until_it_ends(bundle, monkeypatch):
    with served(bundle, concurrency=1, queue=0, deadline=0.1) as client, client, held_up(monkeypatch):
        response = client.post("/predict", json={"images": [GOOD]})
        assert response.status_code == 504
        assert response.json() == {"error": "no answer within the deadline of 0.1 s"}
        assert client.post("/predict", json={"images": [GOOD]}).status_code == 429


def test_a_flood_gets_answers_or_429_and_no_wrong_answer(bundle):
    images = random_images(64, seed=5)
    answers = expected("endpoint-0", images)

    def ask(index: int) -> int:
        response = client.post("/predict", json={"images": [images[index].tolist()], "model": "endpoint-0"})
        if response.status_code == 200:
            np.testing.assert_allclose(probabilities(response)[0], answers[index], atol=1e-6)
        return response.status_code

    with served(bundle, concurrency=2, queue=2) as client, client, ThreadPoolExecutor(16) as clients:
        statuses = list(clients.map(ask, list(range(64)) * 4))
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 4


def test_a_bad_request_does_not_spoil_others(client):
    def ask(index: int) -> int:
        body = {"images": [GOOD]} if index % 2 else {"images": [changed(None, 0, 0, 0)]}
        return client.post("/predict", json=body).status_code

    with ThreadPoolExecutor(4) as clients:
        assert list(clients.map(ask, range(40))) == [400, 200] * 20


def test_a_graph_that_fails_is_a_503_without_its_reason(bundle, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("secret")

    with served(bundle) as client:
        monkeypatch.setattr(Predictor, "logits", fail)
        response = client.post("/predict", json={"images": [GOOD]})
    assert response.status_code == 503
    assert response.json() == {"error": "0 of 1 members answered and 1 are needed (midpoint: failed)"}


def test_a_mistake_of_ours_is_a_500_without_its_reason(bundle, monkeypatch):
    monkeypatch.setattr(Engine, "answer", lambda *arguments: 1 / 0)
    with served(bundle) as client:
        response = client.post("/predict", json={"images": [GOOD]})
    assert response.status_code == 500
    assert response.json() == {"error": "the server failed; its log has the reason"}


def test_a_place_names_the_point_that_was_exported_there(client):
    response = client.post("/predict", json={"images": IMAGES.tolist(), "alpha": 1})
    assert response.json()["model"] == "endpoint-1"
    np.testing.assert_allclose(probabilities(response), expected("endpoint-1"), atol=1e-6)
    form = client.post("/predict_image", files={"images": png(IMAGES[0])}, data={"alpha": "0"})
    assert form.json()["model"] == "endpoint-0"
    nowhere = client.post("/predict", json={"images": [GOOD], "alpha": 0.25})
    assert nowhere.status_code == 404
    assert "no point was exported at alpha 0.25; there are points at 0.5, 0.0, 1.0" in nowhere.json()["error"]
    for other in ({"model": "midpoint"}, {"members": ["midpoint"]}, {"weights": [1]}, {"aggregate": "logits"}):
        both = client.post("/predict", json={"images": [GOOD], "alpha": 0.5} | other)
        assert both.status_code == 400
        assert "alpha names one network" in both.json()["error"]


def test_requests_have_ids(client):
    own = client.get("/models", headers={"x-request-id": "mine-1"})
    assert own.headers["x-request-id"] == "mine-1"
    made_up = [
        client.get("/models", headers={"x-request-id": bad}).headers["x-request-id"] for bad in ("", "a b", "x" * 129)
    ]
    assert all(re.fullmatch("[0-9a-f]{16}", value) for value in made_up)
    assert len(set(made_up)) == 3


def test_a_token(bundle):
    with served(bundle, token="secret") as client:
        for headers in (
            {},
            {"authorization": "Bearer"},
            {"authorization": "Bearer secre"},
            {"authorization": "secret"},
        ):
            response = client.post("/predict", json={"images": [GOOD]}, headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert "Authorization: Bearer TOKEN" in response.json()["error"]
        for path in ("/models", "/metrics", "/docs.json", "/v2", "/nothing"):
            assert client.get(path).status_code == 401
        for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/playground", "/"):
            assert client.get(path).status_code == 200
        bearer = {"authorization": "Bearer secret"}
        assert client.post("/predict", json={"images": [GOOD]}, headers=bearer).status_code == 200
        assert 'subspace_serve_rejections_total{reason="token"} 9.0' in client.get("/metrics", headers=bearer).text


def test_other_origins_may_ask_only_when_configured(bundle):
    origin = {"origin": "https://example.org"}
    with served(bundle) as client:
        assert "access-control-allow-origin" not in client.get("/models", headers=origin).headers
    with served(bundle, cors_origins=("https://example.org",)) as client:
        response = client.get("/models", headers=origin)
        assert response.headers["access-control-allow-origin"] == "https://example.org"
        other = client.get("/models", headers={"origin": "https://example.com"})
        assert "access-control-allow-origin" not in other.headers


def test_bodies_that_are_received_at_once_are_bounded(bundle):
    async def ask() -> list[int]:
        held, go_on, speak = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def slow():
            yield b" " * 900
            held.set()
            await go_on.wait()
            yield b"{" * 101

        async def silent():
            await speak.wait()
            yield b"{" * 1000

        async def whole():
            yield b" " * 900

        first = asyncio.ensure_future(post_slowly(client, slow(), length=1001))
        await held.wait()
        # It has announced much, and sent nothing.
        second = asyncio.ensure_future(post_slowly(client, silent(), length=1000))
        statuses = [await post_slowly(client, whole(), length=900)]
        go_on.set()
        statuses.append(await first)
        speak.set()
        return [*statuses, await second]

    with served(bundle, max_body=1001, max_buffer=1500) as client:
        # 400: the last two are let in, and are no JSON.
        assert asyncio.run(ask()) == [429, 400, 400]


def test_a_request_that_waits_for_its_turn_holds_neither_its_body_nor_its_files(bundle, monkeypatch):
    noise = png(np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8))
    body = json.dumps({"images": [text(noise)]}).encode()
    parts = [body[:1000], body[1000:]]

    async def halves():
        for part in parts:
            yield part

    with served(bundle) as client, ThreadPoolExecutor(1) as pool:
        form = client.build_request("POST", "/predict_image", files=[("images", noise)])
        form.read()  # what the client itself holds is there before
        for ask in (
            lambda: asyncio.run(post_slowly(client, halves(), len(body))),
            lambda: client.send(form).status_code,
        ):
            with held_up(monkeypatch) as begun:
                tracemalloc.start()
                status = pool.submit(ask)
                assert begun.wait(10)
                held, _ = tracemalloc.get_traced_memory()
                tracemalloc.stop()
            assert status.result() == 200
            assert held < len(noise) / 3


def test_a_body_that_arrives_too_slowly_is_408(bundle):
    async def never():
        yield b" "
        await asyncio.Event().wait()

    with served(bundle, deadline=0.05) as client:
        assert asyncio.run(post_slowly(client, never(), length=10)) == 408


def test_a_client_that_goes_away_is_waited_for_no_longer(bundle, monkeypatch):
    body = json.dumps({"images": [GOOD]}).encode()

    async def ask() -> int:
        async def body_and_then_gone():
            yield body

        return await post_slowly(client, body_and_then_gone(), length=len(body), gone=asyncio.to_thread(begun.wait, 10))

    with served(bundle, concurrency=1) as client, held_up(monkeypatch) as begun:
        assert asyncio.run(ask()) == 499


def test_only_configured_models_are_served(bundle):
    with served(bundle, models=("endpoints",), default="endpoints") as client:
        names = [model["name"] for model in client.get("/models").json()["models"]]
        assert names == ["endpoint-0", "endpoint-1", "endpoints"]
        assert client.post("/predict", json={"images": [GOOD]}).json()["model"] == "endpoints"
        assert client.post("/predict", json={"images": [GOOD], "model": "midpoint"}).status_code == 404


def test_the_access_log_is_a_line_of_json(bundle, caplog):
    with caplog.at_level(logging.INFO, "subspace_serve.access"), served(bundle) as client:
        client.post("/predict", json={"images": [GOOD, GOOD], "model": "endpoints"}, headers={"x-request-id": "a1"})
        client.get("/readyz")
        client.get("/nothing%0A{}")
    first, second = (json.loads(record.message) for record in caplog.records)
    assert first.items() >= {
        "request_id": "a1", "method": "POST", "path": "/predict", "status": 200, "model": "endpoints", "images": 2,
        "members": 2,
    }.items()  # fmt: skip
    assert min(first["decode_ms"], first["queue_ms"], first["inference_ms"]) >= 0
    assert first["ms"] >= first["inference_ms"]
    assert second["status"] == 404


def test_metrics_have_bounded_labels(bundle):
    with served(bundle) as client:
        for index in range(20):
            client.get(f"/scan/{index}.php")
            client.request(f"VERB{index}", "/models")
            client.post("/predict", json={"images": [GOOD], "model": f"model-{index}"})
        client.post("/predict", json={"images": [GOOD, GOOD]})
        client.post("/predict", json={"images": [GOOD], "members": ["midpoint"]})
        page = client.get("/metrics").text
    assert 'subspace_serve_requests_total{method="GET",route="unknown",status="404"} 20.0' in page
    assert 'subspace_serve_requests_total{method="other",route="/models",status="405"} 20.0' in page
    assert 'subspace_serve_requests_total{method="POST",route="/predict",status="404"} 20.0' in page
    assert 'subspace_serve_images_total{model="midpoint"} 2.0' in page
    assert 'subspace_serve_images_total{model="custom"} 1.0' in page
    assert not re.search(r"scan|VERB|model-\d", page)


def test_a_form_that_breaks_off_is_told_from_one_without_an_image(client):
    part = b'--cut\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + png(IMAGES[0])
    headers = {"content-type": "multipart/form-data; boundary=cut"}
    assert client.post("/predict_image", content=part + b"\r\n--cut--\r\n", headers=headers).status_code == 200
    for broken in (part, part[:-20], part + b"\r\n--cut"):
        answer = client.post("/predict_image", content=broken, headers=headers)
        assert answer.status_code == 400
        assert "the form breaks off before the boundary that ends it" in answer.json()["error"]


def test_a_byte_order_mark_is_skipped(client):
    body = json.dumps({"images": [GOOD]}).encode()
    plain, marked = (client.post("/predict", content=mark + body, headers=JSON) for mark in (b"", b"\xef\xbb\xbf"))
    assert plain.status_code == 200
    assert marked.json() == plain.json()
