"""The OpenAPI document: what it says, and that the answers of every route are as it says."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from bundle_factory import LABELS, make_bundle
from image_files import png
from openapi_spec_validator import OpenAPIV31SpecValidator
from service_client import GOOD, IMAGES, JSON, served, tensor, text
from service_document import ENSEMBLES, PAIR, TOKEN, document_of
from starlette.testclient import TestClient

from service.app import create_app
from service.endpoints import OPERATIONS
from service.engine import Engine
from service.inference_protocol.documents import InferRequest
from service.metrics import Metrics
from service.openapi import openapi_document
from service.requests import PredictForm, PredictRequest
from service.settings import Settings
from subspace_serve.bundle.prediction_sets import Sets


@pytest.fixture(scope="module")
def client(bundle) -> Iterator[TestClient]:
    with served(bundle, access_log=False) as client:
        yield client


@pytest.fixture(scope="module")
def promising(tmp_path_factory) -> Iterator[TestClient]:
    sets = Sets(method="lac", data="x", count=3, seed=0, scores=(0.1, 0.5, 0.9))
    folder = make_bundle(tmp_path_factory.mktemp("promising") / "bundle", promises={"midpoint": {"sets": sets}})
    with served(folder, access_log=False) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(bundle) -> Iterator[TestClient]:
    with served(bundle, access_log=False, token=TOKEN) as client:
        yield client


@pytest.mark.parametrize("settings", [Settings(), Settings(token=TOKEN, max_images=3)], ids=["open", "token"])
def test_document_is_openapi(settings):
    OpenAPIV31SpecValidator(openapi_document(settings, OPERATIONS)).validate()


def test_document_has_every_route_and_nothing_else(client):
    routes = {(route.path, method) for route in _routes(client) for method in route.methods - {"HEAD"}}
    operations = {(path, method.upper()) for path, item in document_of(client)["paths"].items() for method in item}
    assert operations == routes


def test_document_is_served_before_the_bundle(tmp_path):
    settings = Settings(bundle=tmp_path / "none", max_images=7, max_body=12_345, deadline=3.5)
    metrics = Metrics()
    engine = Engine(settings, metrics)
    try:
        document = TestClient(create_app(engine, metrics)).get("/docs.json").json()
    finally:
        engine.close()
    assert document == json.loads(json.dumps(openapi_document(settings, OPERATIONS)))
    assert document["components"]["schemas"]["PredictRequest"]["properties"]["images"]["maxItems"] == 7
    assert "12345 bytes" in document["components"]["responses"]["Refused413"]["description"]
    assert "3.5 s" in document["components"]["responses"]["Refused504"]["description"]


def test_every_field_of_a_request_is_described():
    schemas = openapi_document(Settings(), OPERATIONS)["components"]["schemas"]
    assert set(schemas["PredictRequest"]["properties"]) == set(PredictRequest.model_fields)
    assert set(schemas["PredictForm"]["properties"]) == set(PredictForm.model_fields)
    assert set(schemas["InferRequest"]["properties"]) == set(InferRequest.model_fields)
    for name in ("PredictRequest", "PredictForm", "InputTensor"):
        assert [field for field, schema in schemas[name]["properties"].items() if "description" not in schema] == []


def test_examples_fit_their_schemas(client):
    document = document_of(client)
    for media in _media_types(document["paths"]):
        examples = [example["value"] for example in media.get("examples", {}).values()]
        for example in [*examples, *([media["example"]] if "example" in media else [])]:
            jsonschema.validate(example, media["schema"] | {"components": document["components"]})
    image = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]["file"]
    assert client.post("/predict", json=image["value"]).status_code == 200


def test_token_is_asked_for_where_the_document_says(guarded):
    document = document_of(guarded)
    assert document["security"] == [{"bearer": []}]
    assert TOKEN not in json.dumps(document)
    is_open = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            is_open[path] = operation.get("security") == []
            answer = guarded.request(method, path.format(model="endpoints", version="1"))
            assert (answer.status_code == 401) != is_open[path], path
            assert ("401" in operation["responses"]) != is_open[path], path
    assert {path for path, value in is_open.items() if value} == {
        "/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/playground", "/",
    }  # fmt: skip


def test_document_without_a_token_says_nothing_of_one(client):
    document = document_of(client)
    assert "security" not in document
    assert "securitySchemes" not in document["components"]
    assert "403" in document["paths"]["/admin/reload"]["post"]["responses"]


@pytest.mark.parametrize("state", ["loading", "draining"])
def test_not_ready_is_answered_as_documented(bundle, state):
    metrics = Metrics()
    engine = Engine(Settings(bundle=bundle, device="cpu", threads=1, access_log=False), metrics)
    if state == "draining":
        engine.start().join()
        engine.draining = True
    client = TestClient(create_app(engine, metrics), raise_server_exceptions=False)
    statuses = {}
    try:
        document = document_of(client)
        bodies = {
            "/predict": {"json": {"images": [GOOD]}},
            "/predict_image": {"files": {"images": png(IMAGES[0])}},
            "/v2/models/{model}/infer": {"json": {"inputs": [tensor(IMAGES[:1])]}},
        }
        bodies["/v2/models/{model}/versions/{version}/infer"] = bodies["/v2/models/{model}/infer"]
        for path, item in document["paths"].items():
            for method, operation in item.items():
                url = path.format(model="endpoints", version="1")
                answer = client.request(method, url, follow_redirects=False, **bodies.get(path, {}))
                statuses[path] = answer.status_code
                _check_answer(document, operation, answer)
    finally:
        engine.close()
    refused = {path for path, status in statuses.items() if status == 503}
    of_models = {path for path in statuses if path.startswith("/v2/models/")}
    ready = {"/readyz", "/v2/health/ready"}
    if state == "loading":
        assert refused == ready | of_models | {"/predict", "/predict_image", "/models", "/models/{model}/drift"}
    else:
        assert refused == ready | {path for path in of_models if path.endswith("/ready")}


def test_answers_to_all_models_and_options_fit_the_document(client, promising):
    document = document_of(client)
    predict = document["paths"]["/predict"]["post"]
    infer = document["paths"]["/v2/models/{model}/infer"]["post"]
    models = ["midpoint", *PAIR, *ENSEMBLES]
    for model, return_members in itertools.product(models, (False, True)):
        request = {"images": [GOOD, text(png(IMAGES[1]))], "model": model, "return_members": return_members}
        answer = client.post("/predict", json=request)
        assert answer.status_code == 200
        _check_answer(document, predict, answer)
    for model, own in itertools.product(("promising", "midpoint"), ({}, {"members": PAIR, "model": None})):
        request = {"images": [GOOD], "model": "midpoint", "coverage": 0.5, "max_risk": 0.5} | own
        service = promising if model == "promising" else client
        answer = service.post("/predict", json=request)
        assert answer.status_code == 200
        _check_answer(document, predict, answer)
        parameters = {"coverage": 0.5, "max_risk": 0.5} | ({"members": json.dumps(PAIR)} if own else {})
        answer = service.post(
            f"/v2/models/{'endpoints' if own else 'midpoint'}/infer",
            json={"inputs": [tensor(IMAGES[:1])], "parameters": parameters},
        )
        assert answer.status_code == 200
        assert {"sets", "abstained"} <= answer.json()["parameters"].keys()
        _check_answer(document, infer, answer)
    for model in models:
        for classification in ({}, {"classification": 2}):
            outputs = [{"name": "probabilities", "parameters": classification}]
            request = {"inputs": [tensor(IMAGES[:1])], "outputs": outputs}
            answer = client.post(f"/v2/models/{model}/infer", json=request)
            assert answer.status_code == 200
            _check_answer(document, infer, answer)
    assert client.get("/models").json()["labels"] == list(LABELS)


def _routes(client: TestClient) -> list[Any]:
    app: Any = client.app
    while not hasattr(app, "routes"):
        app = app._app
    return app.routes


def _media_types(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if "schema" in part and ("example" in part or "examples" in part):
            yield part
        for value in part.values():
            yield from _media_types(value)
    elif isinstance(part, list):
        for value in part:
            yield from _media_types(value)


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in part:
        _, _, kind, name = part["$ref"].split("/")
        return document["components"][kind][name]
    return part


def _check_answer(document: dict[str, Any], operation: dict[str, Any], answer: Any) -> None:
    """Check an answer's status, headers, content type and JSON against an operation of the document."""
    documented = _resolved(document, operation["responses"][str(answer.status_code)])
    for name, header in documented["headers"].items():
        assert name in answer.headers or not _resolved(document, header).get("required"), name
    if not documented["content"]:
        assert answer.content == b""
        return
    media_type = answer.headers["content-type"].split(";")[0]
    schema = documented["content"][media_type]["schema"]
    if media_type == JSON["content-type"]:
        jsonschema.validate(answer.json(), schema | {"components": document["components"]})
