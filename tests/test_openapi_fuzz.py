"""The service against its OpenAPI document: schemathesis asks everything that it allows and forbids.

FUZZ_EXAMPLES is the number of random requests for each operation.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from bundle_factory import SHAPES
from image_files import png
from service_client import IMAGES, JSON, served, text
from service_document import ENSEMBLES, PAIR, TOKEN, document_of
from starlette.testclient import TestClient

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis needs Python 3.11")

from hypothesis import strategies  # noqa: E402
from schemathesis.config import SchemathesisConfig  # noqa: E402
from schemathesis.engine import Status, events, from_schema  # noqa: E402
from schemathesis.transport.serialization import Binary  # noqa: E402

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
BINARY_HEADER = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def client(bundle) -> Iterator[TestClient]:
    # Options that need an ensemble then fit any request that names no model.
    with served(bundle, default="endpoints", max_images=2, access_log=False) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(bundle) -> Iterator[TestClient]:
    with served(bundle, default="endpoints", max_images=2, access_log=False, token=TOKEN) as client:
        yield client


def test_service_answers_as_documented(guarded):
    document = _without_examples(document_of(guarded))
    # What it allows need not fit this bundle, and a form does not tell 0 from false: see the next test for that.
    checks = {"positive_data_acceptance": {"enabled": False}, "negative_data_rejection": {"enabled": False}}
    failures, asked = _fuzz(guarded, document, checks)
    assert failures == []
    assert asked == set(document["paths"])


def test_service_takes_all_that_is_right_and_nothing_else(client):
    document = _bound(document_of(client))
    failures, asked = _fuzz(client, document, {"positive_data_acceptance": {"expected-statuses": ["2xx", 307, 403]}})
    # The narrowed document names ensembles only: a name that is wrong there may be a point's, and rightly accepted.
    of_a_point = re.compile(r"negative_data_rejection: .*/models/(midpoint|endpoint-\d)\b", re.DOTALL)
    # So is the place of a point among a form's members.
    at_a_point = re.compile(r'negative_data_rejection: .*name="members"(\\r\\n){2}[\d.]+\\r\\n', re.DOTALL)
    assert [failure for failure in failures if not (of_a_point.match(failure) or at_a_point.match(failure))] == []
    assert asked == set(document["paths"])


def _fuzz(client: TestClient, document: dict[str, Any], checks: dict[str, Any]) -> tuple[list[str], set[str]]:
    """Ask the application what the document allows and forbids; return what was wrong, and the paths asked."""
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "continue-on-failure": True,
            "headers": {"Authorization": f"Bearer {TOKEN}"},
            "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
            "suppress-health-check": ["all"],
            # Requests are independent: nothing that one answers is of use in another.
            "phases": {"examples": {"enabled": False}, "stateful": {"enabled": False}},
            "checks": {
                "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 413, 415]},
                # The server is ready, so it has no reason to answer 503 either.
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx"]},
                **checks,
            },
        }
    )
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.app = client.app
    failures, asked = [], set()
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            failures.append(f"{event.label}: {event.info.format()}")
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            for case, nodes in event.recorder.checks.items():
                asked.add(event.recorder.cases[case].value.operation.path)
                failures += [
                    f"{node.name}: {node.failure_info.failure.message}\n{node.failure_info.code_sample}"
                    for node in nodes
                    if node.status is Status.FAILURE and node.failure_info is not None
                ]
    return failures, asked


def _bound(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document for one bundle only: names, shapes and choices that fit it, so that all that fits is right.

    The document itself is of every bundle, and JSON Schema cannot say that as many weights are needed as members.
    """
    document = copy.deepcopy(document)
    schemas = document["components"]["schemas"]
    height, width, channels = SHAPES["uint8"]
    byte = {"type": "integer", "minimum": 0, "maximum": 255}
    schemas["Pixels"] = _exactly(height, _exactly(width, _exactly(channels, byte)))
    schemas["ImageFile"] = {"enum": [text(png(image)) for image in IMAGES]}
    document["components"]["parameters"]["model"]["schema"] = {"enum": ENSEMBLES}
    request, form = schemas["PredictRequest"]["properties"], schemas["PredictForm"]["properties"]
    choices: dict[str, list[Any]] = {
        "model": ENSEMBLES,
        "members": [PAIR, PAIR[::-1]],
        "weights": [[3, 1], [0, 0.5]],
        "aggregate": ["probabilities", "logits"],
    }
    for name, values in choices.items():
        request[name] = {"enum": [*values, None]}
        form[name] = {"enum": values}
    request["alpha"] = {"enum": [0.5, 0, [1], None]}
    # The bundle has no domain.
    request["domain"] = {"enum": [None]}
    del form["domain"], schemas["InferParameters"]["properties"]["domain"]
    # In a form one number is a list of one, and 0 is as false as false.
    form["alpha"] = {"enum": [[0.5], [0], 0.5, 0]}
    form["resize"] = form["return_members"] = {"enum": [True, False, 0]}
    tensor = schemas["InputTensor"]
    tensor["required"].append("data")
    del tensor["properties"]["parameters"]  # those of binary data
    tensor["properties"] |= {
        "name": {"const": "image"},
        "shape": {"const": [1, height, width, channels]},
        "datatype": {"const": "UINT8"},
        "data": _exactly(height * width * channels, byte),
    }
    parameters = schemas["InferParameters"]["properties"]
    parameters["members"] = {"enum": [json.dumps(members) for members in choices["members"]]}
    parameters["weights"] = {"enum": [json.dumps(weights) for weights in choices["weights"]]}
    parameters["alpha"] = {"enum": [0.5, 0, "1", "[0.5]"]}
    parameters["timeout"]["minimum"] = 1e9
    outputs, _ = schemas["InferRequest"]["properties"]["outputs"]["anyOf"]
    outputs["maxItems"] = 1
    # The declared type of a file does not count.
    del document["paths"]["/predict_image"]["post"]["requestBody"]["content"]["multipart/form-data"]["encoding"]
    return _without_examples(document)


def _exactly(count: int, items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": count, "maxItems": count, "items": items}


def _without_examples(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _without_examples(value) for name, value in part.items() if name not in ("example", "examples")}
    return [_without_examples(value) for value in part] if isinstance(part, list) else part


def _without_points(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _without_points(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_without_points(value) for value in part]
    return int(part) if isinstance(part, float) and part.is_integer() else part


def _binary_body(count: int, outputs: dict[str, Any]) -> bytes:
    pixels = IMAGES[:count].tobytes()
    tensor = {"name": "image", "datatype": "UINT8", "shape": [count, *SHAPES["uint8"]]}
    tensor["parameters"] = {"binary_data_size": len(pixels)}
    return json.dumps({"inputs": [tensor], "parameters": outputs}).encode() + pixels


schemathesis.openapi.format("binary", strategies.sampled_from([Binary(png(image)) for image in IMAGES]))
schemathesis.openapi.media_type(
    "application/octet-stream",
    strategies.builds(
        _binary_body, strategies.integers(1, 2), strategies.sampled_from([{}, {"binary_data_output": True}])
    ),
)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Make right requests what their schemas cannot say.

    An integer is written without a decimal point: to JSON Schema 1.0 is one too, to the service it is not. And the
    length of a JSON document depends on the body.
    """
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    if isinstance(case.body, dict) and case.media_type == JSON["content-type"]:
        case.body = _without_points(case.body)
    if not case.path.endswith("/infer"):
        return
    case.headers.pop(BINARY_HEADER, None)
    if isinstance(case.body, bytes):
        _, end = json.JSONDecoder().raw_decode(case.body.decode("latin-1"))
        case.headers[BINARY_HEADER] = str(end)
