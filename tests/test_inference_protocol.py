"""The Open Inference Protocol: driven by Triton's own client, and by hand where that client would not go."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import service_client
from bundle_factory import LABELS, expected_logits, make_bundle, random_images
from service_client import IMAGES, expected, served
from starlette.testclient import TestClient
from threaded_server import listening

from service.engine import LARGE_JSON
from service.inference_protocol import request, routes
from subspace_serve.answers import softmax

triton = pytest.importorskip("tritonclient.http")

PAIR = (expected("endpoint-0") + expected("endpoint-1")) / 2


@pytest.fixture(scope="module")
def client(bundle) -> Iterator[TestClient]:
    with served(bundle, max_images=8) as client:
        yield client


class TritonClient(triton.InferenceServerClient):
    """A client that only `with` closes: closed again as garbage, in another thread perhaps, gevent crashes."""

    def __del__(self) -> None:
        pass


@pytest.fixture(scope="module")
def triton_client(client) -> Iterator[TritonClient]:
    with listening(client.app) as url, TritonClient(url.removeprefix("http://")) as own:
        yield own


def tensor(images: np.ndarray, binary: bool) -> triton.InferInput:
    datatype = "UINT8" if images.dtype == np.uint8 else "FP32"
    result = triton.InferInput("image", list(images.shape), datatype)
    result.set_data_from_numpy(images, binary_data=binary)
    return result


def outputs(binary: bool, *names: str) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_points_and_ensembles(triton_client, binary_in, binary_out):
    image = tensor(IMAGES, binary_in)
    asked = outputs(binary_out, "logits", "probabilities", "entropy")
    point = triton_client.infer("endpoint-1", [image], outputs=asked, request_id="seven")
    answer = expected("endpoint-1")
    np.testing.assert_allclose(point.as_numpy("probabilities"), answer, atol=1e-6)
    np.testing.assert_allclose(softmax(point.as_numpy("logits")), answer, atol=1e-6)
    np.testing.assert_allclose(point.as_numpy("entropy"), -(answer * np.log(answer)).sum(axis=1), atol=1e-6)
    document = point.get_response()
    assert (document["model_name"], document["model_version"], document["id"]) == ("endpoint-1", "1", "seven")
    assert [output["name"] for output in document["outputs"]] == ["logits", "probabilities", "entropy"]

    asked = outputs(binary_out, "probabilities", "disagreement", "mutual_information", "member_probabilities")
    pair = triton_client.infer("endpoints", [image], outputs=asked)
    np.testing.assert_allclose(pair.as_numpy("probabilities"), PAIR, atol=1e-6)
    members = pair.as_numpy("member_probabilities")
    assert members.shape == (3, 2, len(LABELS))
    np.testing.assert_allclose(members[:, 1], answer, atol=1e-6)
    distance = np.abs(expected("endpoint-0") - answer).sum(axis=1) / 4
    np.testing.assert_allclose(pair.as_numpy("disagreement"), distance, atol=1e-6)
    assert json.loads(pair.get_response()["parameters"]["members"]) == ["endpoint-0", "endpoint-1"]


def test_without_requested_outputs_the_usual_ones_are_binary(triton_client):
    answer = triton_client.infer("leaning", [tensor(IMAGES, True)])
    names = [output["name"] for output in answer.get_response()["outputs"]]
    assert names == ["probabilities", "entropy", "mutual_information", "disagreement"]
    logits = 0.75 * expected_logits("endpoint-0", IMAGES) + 0.25 * expected_logits("endpoint-1", IMAGES)
    np.testing.assert_allclose(answer.as_numpy("probabilities"), softmax(logits), atol=1e-6)
    assert answer.get_response()["parameters"]["aggregate"] == "logits"


def test_parameters_choose_members_weights_aggregate_and_place(triton_client):
    image = [tensor(IMAGES, True)]
    members = {"members": '["midpoint", "endpoint-0"]', "weights": "[1, 3]", "aggregate": "logits"}
    refused = pytest.raises(triton.InferenceServerException, match="endpoints has no member midpoint")
    with refused:
        triton_client.infer("endpoints", image, parameters=members)
    leaning = triton_client.infer("endpoints", image, parameters={"weights": "[3, 1]", "aggregate": "logits"})
    logits = 0.75 * expected_logits("endpoint-0", IMAGES) + 0.25 * expected_logits("endpoint-1", IMAGES)
    np.testing.assert_allclose(leaning.as_numpy("probabilities"), softmax(logits), atol=1e-6)
    one = triton_client.infer("endpoints", image, parameters={"members": '["endpoint-1"]'})
    np.testing.assert_allclose(one.as_numpy("probabilities"), expected("endpoint-1"), atol=1e-6)
    for alpha in ("0.0", 0.0):
        place = triton_client.infer("endpoints", image, parameters={"alpha": alpha})
        assert place.get_response()["model_name"] == "endpoint-0"
        np.testing.assert_allclose(place.as_numpy("probabilities"), expected("endpoint-0"), atol=1e-6)


def test_classification(triton_client):
    asked = [triton.InferRequestedOutput("probabilities", class_count=2)]
    found = triton_client.infer("midpoint", [tensor(IMAGES, True)], outputs=asked).as_numpy("probabilities")
    assert found.shape == (3, 2)
    value, index, label = found[0, 0].decode().split(":")
    best = int(expected("midpoint")[0].argmax())
    assert (int(index), label) == (best, LABELS[best])
    assert float(value) == pytest.approx(expected("midpoint")[0, best], abs=1e-5)


def test_metadata_health_and_index(triton_client):
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready("endpoints")
    assert triton_client.is_model_ready("endpoints", "1")
    assert not triton_client.is_model_ready("nobody")
    assert not triton_client.is_model_ready("endpoints", "2")
    assert {"binary_tensor_data", "classification"} <= set(triton_client.get_server_metadata()["extensions"])
    metadata = triton_client.get_model_metadata("endpoints", "1")
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 4, 5, 3]}]
    shapes = {output["name"]: output["shape"] for output in metadata["outputs"]}
    assert shapes["member_probabilities"] == [-1, 2, 4]
    assert "disagreement" not in str(triton_client.get_model_metadata("midpoint"))
    assert triton_client.get_model_config("midpoint")["max_batch_size"] == 8
    index = triton_client.get_model_repository_index()
    assert [model["name"] for model in index] == ["midpoint", "endpoint-0", "endpoint-1", "endpoints", "leaning"]
    assert {model["state"] for model in index} == {"READY"}
    with pytest.raises(triton.InferenceServerException, match="there is no model 'nobody'"):
        triton_client.infer("nobody", [tensor(IMAGES, True)])
    with pytest.raises(triton.InferenceServerException, match="has no version '3'"):
        triton_client.infer("midpoint", [tensor(IMAGES, True)], model_version="3")


def test_float_models(tmp_path):
    images = random_images(2, dtype="float32")
    with (
        served(make_bundle(tmp_path / "bundle", dtype="float32")) as client,
        listening(client.app) as url,
        TritonClient(url.removeprefix("http://")) as own,
    ):
        for binary in (True, False):
            answer = own.infer("midpoint", [tensor(images, binary)])
            np.testing.assert_allclose(answer.as_numpy("probabilities"), expected("midpoint", images), atol=1e-5)
        images[0, 0, 0, 0] = np.nan
        with pytest.raises(triton.InferenceServerException, match="numbers from 0 to 1"):
            own.infer("midpoint", [tensor(images, True)])


FLAT = IMAGES[:1].ravel().tolist()
GOOD = service_client.tensor(IMAGES[:1])


def infer(client: TestClient, document, **headers: str):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return client.post("/v2/models/midpoint/infer", content=body, headers=headers)


def test_json_data_may_be_flat_or_nested(client):
    nested = {**GOOD, "data": IMAGES[:1].tolist()}
    for document in (GOOD, nested):
        answer = infer(client, {"inputs": [document], "id": "x"}).json()
        assert answer["id"] == "x"
        probabilities = next(output for output in answer["outputs"] if output["name"] == "probabilities")
        assert probabilities["shape"] == [1, 4]
        np.testing.assert_allclose(probabilities["data"], expected("midpoint")[0], atol=1e-6)


BAD = {
    "empty": (b"", "not JSON"),
    "no inputs": ({"inputs": []}, "inputs"),
    "unknown field": ({"inputs": [GOOD], "input": 1}, "input: Extra"),
    "two inputs": ({"inputs": [GOOD, GOOD]}, "expected one, image"),
    "another name": ({"inputs": [GOOD | {"name": "x"}]}, "got the inputs ['x']"),
    "datatype": ({"inputs": [GOOD | {"datatype": "FP32"}]}, "expected UINT8"),
    "layout": ({"inputs": [GOOD | {"shape": [1, 3, 4, 5]}]}, "has the shape [1, 3, 4, 5], expected [N, 4, 5, 3]"),
    "rank": ({"inputs": [GOOD | {"shape": [4, 5, 3]}]}, "has the shape"),
    "no images": ({"inputs": [GOOD | {"shape": [0, 4, 5, 3], "data": []}]}, "has the shape [0"),
    "negative shape": ({"inputs": [GOOD | {"shape": [-1, 4, 5, 3]}]}, "shape.0"),
    "huge shape": ({"inputs": [GOOD | {"shape": [10**18, 4, 5, 3]}]}, "the limit is 8"),
    "too few numbers": ({"inputs": [GOOD | {"data": FLAT[1:]}]}, "has the shape [59], expected [1, 4, 5, 3]"),
    "wrong nesting": ({"inputs": [GOOD | {"data": IMAGES[0].tolist()}]}, "has the shape [4, 5, 3]"),
    "too great": ({"inputs": [GOOD | {"data": [256, *FLAT[1:]]}]}, "whole numbers from 0 to 255"),
    "fraction": ({"inputs": [GOOD | {"data": [0.5, *FLAT[1:]]}]}, "whole numbers"),
    "boolean": ({"inputs": [GOOD | {"data": [True, *FLAT[1:]]}]}, "whole numbers"),
    "text": ({"inputs": [GOOD | {"data": ["1", *FLAT[1:]]}]}, "whole numbers"),
    "null": ({"inputs": [GOOD | {"data": [None, *FLAT[1:]]}]}, "whole numbers"),
    "no data": ({"inputs": [{k: v for k, v in GOOD.items() if k != "data"}]}, "neither data nor"),
    "output": ({"inputs": [GOOD], "outputs": [{"name": "x"}]}, "there is no output 'x'"),
    "output twice": ({"inputs": [GOOD], "outputs": [{"name": "logits"}] * 2}, "asked for twice"),
    "output of ensembles": ({"inputs": [GOOD], "outputs": [{"name": "disagreement"}]}, "is of ensembles"),
    "output parameter": (
        {"inputs": [GOOD], "outputs": [{"name": "logits", "parameters": {"x": 1}}]},
        "unknown parameter",
    ),
    "class count": (
        {"inputs": [GOOD], "outputs": [{"name": "entropy", "parameters": {"classification": 1}}]},
        "number of classes",
    ),
    "parameter": ({"inputs": [GOOD], "parameters": {"priority": 1}}, "'priority' is not known"),
    "members": ({"inputs": [GOOD], "parameters": {"members": "endpoint-0"}}, "members is not JSON"),
    "weights": ({"inputs": [GOOD], "parameters": {"weights": "[NaN]"}}, "weights is not JSON"),
    "aggregate": ({"inputs": [GOOD], "parameters": {"aggregate": "mean"}}, "give probabilities or logits"),
    "huge alpha": ({"inputs": [GOOD], "parameters": {"alpha": 10**400}}, "alpha must be a number"),
    "alpha": ({"inputs": [GOOD], "parameters": {"alpha": "midpoint"}}, "alpha is not JSON"),
    "timeout": ({"inputs": [GOOD], "parameters": {"timeout": -1}}, "microseconds"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_400(client, name):
    document, message = BAD[name]
    response = infer(client, document)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]


@pytest.mark.parametrize("says_length", [False, True])
def test_long_json_is_parsed_off_the_event_loop(client, monkeypatch, says_length):
    threads = []

    def parse_infer(*arguments):
        threads.append(threading.current_thread().name)
        return request.parse_infer(*arguments)

    monkeypatch.setattr(routes, "parse_infer", parse_infer)
    text = json.dumps({"inputs": [GOOD]}) + " " * LARGE_JSON
    response = infer(
        client, text.encode(), **{"Inference-Header-Content-Length": str(len(text))} if says_length else {}
    )
    assert response.status_code == 200, response.text
    assert threads[0].startswith("decode")


@pytest.mark.parametrize(
    ("size", "tail", "length", "message"),
    [
        (60, b"x" * 59, None, "59 bytes follow"),
        (60, b"x" * 61, None, "61 bytes follow"),
        (59, b"x" * 59, None, "is 60 bytes"),
        (60, b"x" * 60, "x", "Inference-Header-Content-Length is 'x'"),
        (60, b"x" * 60, "-1", "Inference-Header-Content-Length is '-1'"),
        (60, b"x" * 60, "+1", "Inference-Header-Content-Length is '+1'"),
        (60, b"x" * 60, "1_0", "Inference-Header-Content-Length is '1_0'"),
        (60, b"x" * 60, "", "Inference-Header-Content-Length is ''"),
        (60, b"x" * 60, "99999", "at most"),
        (60, b"x" * 60, "5", "not JSON"),
        (60, b"x" * 60, "9" * 5000, "Inference-Header-Content-Length"),
    ],
)
def test_binary_data_that_does_not_fit_is_400(client, size, tail, length, message):
    document = {**GOOD, "parameters": {"binary_data_size": size}}
    del document["data"]
    text = json.dumps({"inputs": [document]}).encode()
    length = str(len(text)) if length is None else length
    response = infer(client, text + tail, **{"Inference-Header-Content-Length": length})
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_a_request_may_shorten_its_deadline(client, monkeypatch):
    from service_client import held_up

    with held_up(monkeypatch):
        response = infer(client, {"inputs": [GOOD], "parameters": {"timeout": 50_000}})
    assert response.status_code == 504
    assert response.json() == {"error": "no answer within the request's timeout of 0.05 s"}


def test_unsupported_content_types_are_415(client):
    assert infer(client, {"inputs": [GOOD]}, **{"content-type": "text/plain"}).status_code == 415
    assert infer(client, {"inputs": [GOOD]}, **{"content-encoding": "gzip"}).status_code == 415


def test_the_index_takes_its_option(client):
    assert len(client.post("/v2/repository/index", json={"ready": True}).json()) == 5
    assert client.post("/v2/repository/index", json={"ready": 1}).status_code == 400
    assert client.post("/v2/repository/index", json={"raedy": True}).status_code == 400


def test_a_document_may_name_a_model_and_the_path_decides(client):
    """As KServe's own Python client does in every request."""
    document = {
        "id": "9f0c",
        "model_name": "endpoint-1",
        "inputs": [service_client.tensor(IMAGES)],
    }
    plain = client.post("/v2/models/endpoint-1/infer", json={key: document[key] for key in ("id", "inputs")})
    answer = client.post("/v2/models/endpoint-1/infer", json=document)
    assert answer.status_code == 200, answer.text
    assert answer.json() == plain.json()
    assert client.post("/v2/models/endpoint-0/infer", json=document).json()["model_name"] == "endpoint-0"
    unknown = client.post("/v2/models/endpoint-1/infer", json=document | {"model": "endpoint-1"})
    assert unknown.status_code == 400
