"""Every route of the service, once: the application answers by this table, and the OpenAPI document shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from service.inference_protocol.metadata import (
    IndexEntry,
    Live,
    ModelConfiguration,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
)
from service.inference_protocol.request import InferRequest, RepositoryIndexRequest
from service.inference_protocol.response import InferResponse
from service.refusals import Error
from service.requests import PredictForm, PredictRequest
from service.responses import Models, Predictions, Reloaded

JSON = "application/json"
BINARY = "application/octet-stream"
FORM = "multipart/form-data"

_PREDICTION = "prediction"
_PROTOCOL = "open inference protocol"
_MODELS = "models"
_OPERATION = "operation"

_BODY = (400, 408, 413, 415, 429)
_ASKED = (*_BODY, 404, 500, 503, 504)

_Bytes = Annotated[str, Field(json_schema_extra={"format": "binary"})]
_InferBytes = Annotated[
    str,
    Field(
        description="The JSON document of an InferRequest without `data`, its length in the header "
        "Inference-Header-Content-Length, and after it the tensor's bytes: row-major, little-endian.",
        json_schema_extra={"format": "binary"},
    ),
]
_Document = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "required": ["openapi"]})]


@dataclass(frozen=True)
class Operation:
    """One route.

    `name` is its operationId. `answer` says what comes, with `status`, when all is well, and `content` its type by its
    media type; `headers` are those that come with it. `refusals` are the statuses of `service.refusals` that it may
    have, but for 401 and 405, which all have. `body` is what it takes, by media type. One that `is_open` asks for no
    token, and `unready` is the type of its own 503. A probe is not logged.
    """

    name: str
    method: str
    path: str
    tag: str
    summary: str
    answer: str
    content: Mapping[str, Any]
    description: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    body_note: str | None = None
    body_required: bool = True
    refusals: tuple[int, ...] = ()
    headers: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    unready: Any = None
    status: int = 200
    is_open: bool = False
    is_probe: bool = False


def _with_versions(operation: Operation) -> tuple[Operation, Operation]:
    """Return an operation on a model, and the same on a version of it."""
    path = operation.path.replace("{model}", "{model}/versions/{version}")
    parameters = ("Model", "Version", *operation.parameters)
    return (
        replace(operation, parameters=("Model", *operation.parameters)),
        replace(operation, name=operation.name + "_version", path=path, parameters=parameters),
    )


OPERATIONS = (
    Operation(
        "predict",
        "POST",
        "/predict",
        _PREDICTION,
        "Classify pixels, or image files in base64",
        "One prediction an image, in the order of the images, and who answered.",
        {JSON: Predictions},
        "The options have no place in the address: a query string is refused.",
        {JSON: PredictRequest},
        refusals=_ASKED,
    ),
    Operation(
        "predict_image",
        "POST",
        "/predict_image",
        _PREDICTION,
        "Classify image files of a form",
        "One prediction an image, in the order of the images, and who answered.",
        {JSON: Predictions},
        "With curl: `curl -F images=@cat.png -F model=endpoints http://…/predict_image`. PNG, JPEG, WebP, GIF, BMP and "
        "TIFF; the contents count, not the declared type. Lists are repeated fields, or one field with commas.",
        {FORM: PredictForm},
        refusals=_ASKED,
    ),
    *_with_versions(
        Operation(
            "protocol_infer",
            "POST",
            "/v2/models/{model}/infer",
            _PROTOCOL,
            "Classify a tensor of images",
            "Tensors, in the order in which they were asked for. Those asked for as binary data follow the JSON "
            f"document, and the content type is {BINARY}.",
            {JSON: InferResponse, BINARY: _Bytes},
            "`tritonclient.http` works unchanged. A body without a content type is taken as JSON. The parameters "
            "choose as the options of /predict do; lists are JSON strings.",
            {JSON: InferRequest, BINARY: _InferBytes},
            refusals=_ASKED,
            headers=("Inference-Header-Content-Length",),
            parameters=("JsonLength",),
        )
    ),
    *_with_versions(
        Operation(
            "protocol_model",
            "GET",
            "/v2/models/{model}",
            _PROTOCOL,
            "A model's input and outputs",
            "Tensors with -1 where a dimension is free.",
            {JSON: ModelMetadata},
            refusals=(404, 503),
        )
    ),
    *_with_versions(
        Operation(
            "protocol_model_ready",
            "GET",
            "/v2/models/{model}/ready",
            _PROTOCOL,
            "Whether a model answers",
            "It does.",
            {JSON: ModelReady},
            refusals=(404,),
            unready=ModelReady | Error,
        )
    ),
    *_with_versions(
        Operation(
            "protocol_configuration",
            "GET",
            "/v2/models/{model}/config",
            _PROTOCOL,
            "A model's configuration, as Triton has it",
            "The configuration.",
            {JSON: ModelConfiguration},
            refusals=(404, 503),
        )
    ),
    Operation(
        "protocol_server",
        "GET",
        "/v2",
        _PROTOCOL,
        "The server and its extensions",
        "Name, version and extensions.",
        {JSON: ServerMetadata},
    ),
    Operation(
        "protocol_live",
        "GET",
        "/v2/health/live",
        _PROTOCOL,
        "Whether the process answers",
        "It does.",
        {JSON: Live},
        is_open=True,
        is_probe=True,
    ),
    Operation(
        "protocol_ready",
        "GET",
        "/v2/health/ready",
        _PROTOCOL,
        "Whether requests should be sent here",
        "They should.",
        {JSON: Ready},
        unready=Ready,
        is_open=True,
        is_probe=True,
    ),
    Operation(
        "protocol_index",
        "POST",
        "/v2/repository/index",
        _PROTOCOL,
        "List the models; none before the bundle is loaded",
        "Every point and ensemble.",
        {JSON: list[IndexEntry]},
        body={JSON: RepositoryIndexRequest},
        body_note="May be empty. Models are always ready, so `ready` changes nothing.",
        body_required=False,
        refusals=_BODY,
    ),
    Operation(
        "models",
        "GET",
        "/models",
        _MODELS,
        "What there is to ask",
        "Points, ensembles, labels, and the pixels that they take.",
        {JSON: Models},
        refusals=(503,),
    ),
    Operation(
        "playground",
        "GET",
        "/playground",
        _MODELS,
        "A page to try the models in a browser",
        "The page.",
        {"text/html": str},
        is_open=True,
    ),
    Operation(
        "root",
        "GET",
        "/",
        _MODELS,
        "Leads to the playground",
        "The playground's address, relative to this one.",
        {},
        headers=("Location",),
        status=307,
        is_open=True,
    ),
    Operation(
        "live",
        "GET",
        "/livez",
        _OPERATION,
        "Whether the process answers",
        "It does.",
        {"text/plain": str},
        is_open=True,
        is_probe=True,
    ),
    Operation(
        "ready",
        "GET",
        "/readyz",
        _OPERATION,
        "Whether requests should be sent here",
        "They should.",
        {"text/plain": str},
        unready=Error,
        is_open=True,
        is_probe=True,
    ),
    Operation(
        "metrics", "GET", "/metrics", _OPERATION, "Metrics for Prometheus", "Its text format.", {"text/plain": str}
    ),
    Operation(
        "document", "GET", "/docs.json", _OPERATION, "This document", "An OpenAPI 3.1 document.", {JSON: _Document}
    ),
    Operation(
        "reload",
        "POST",
        "/admin/reload",
        _OPERATION,
        "Replace the bundle by what its folder holds now",
        "Every worker serves the new bundle.",
        {JSON: Reloaded},
        "Takes no body. Answers when every worker has verified and loaded the new bundle; requests are answered from "
        "the old one until then. Only a server that was started with a token does it.",
        refusals=(403, 409, 500),
    ),
)
