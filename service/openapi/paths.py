"""The document's operations, route by route."""

from __future__ import annotations

from service.openapi.examples import (
    BINARY_INFER_REQUEST,
    INFER_ANSWER,
    INFER_REQUESTS,
    MODELS,
    PREDICT_ANSWERS,
    PREDICT_REQUESTS,
)
from service.openapi.parts import BINARY, JSON, Json, Operations, answer, json_answer, ref
from service.settings import Settings

_IMAGE_TYPES = "image/png, image/jpeg, image/webp, image/gif, image/bmp, image/tiff"
_BODY = (400, 408, 413, 415, 429)
_ASKED = (*_BODY, 404, 500, 503, 504)
_PROTOCOL = "open inference protocol"


def paths(settings: Settings) -> Json:
    """Return every route's operations."""
    operation = Operations(settings)
    return _prediction(operation) | _protocol(operation) | _models(operation) | _service(operation, settings)


def _prediction(operation: Operations) -> Json:
    prediction = answer(
        "One prediction an image, in the order of the images, and who answered.",
        {JSON: {"schema": ref("schemas", "Predictions"), "examples": PREDICT_ANSWERS}},
    )
    form = {"schema": ref("schemas", "PredictForm"), "encoding": {"images": {"contentType": _IMAGE_TYPES}}}
    return {
        "/predict": {
            "post": operation(
                "predict",
                "prediction",
                "Classify pixels, or image files in base64",
                prediction,
                description="The options have no place in the address: a query string is refused.",
                refusals=_ASKED,
                body={
                    "required": True,
                    "content": {JSON: {"schema": ref("schemas", "PredictRequest"), "examples": PREDICT_REQUESTS}},
                },
            )
        },
        "/predict_image": {
            "post": operation(
                "predict_image",
                "prediction",
                "Classify image files of a form",
                prediction,
                description="With curl: `curl -F images=@cat.png -F model=endpoints http://…/predict_image`. PNG, "
                "JPEG, WebP, GIF, BMP and TIFF; the contents count, not the declared type. Lists are repeated "
                "fields, or one field with commas.",
                refusals=_ASKED,
                body={"required": True, "content": {"multipart/form-data": form}},
            )
        },
    }


def _protocol(operation: Operations) -> Json:
    routes: Json = {
        "/v2": {
            "get": operation(
                "protocol_server",
                _PROTOCOL,
                "The server and its extensions",
                json_answer("Name, version and extensions.", "ServerMetadata"),
            )
        },
        "/v2/health/live": {
            "get": operation(
                "protocol_live",
                _PROTOCOL,
                "Whether the process answers",
                json_answer("It does.", "Live", {"live": True}),
                is_open=True,
            )
        },
        "/v2/health/ready": {
            "get": operation(
                "protocol_ready",
                _PROTOCOL,
                "Whether requests should be sent here",
                json_answer("They should.", "Ready", {"ready": True}),
                others={503: _not_ready("Ready")},
                is_open=True,
            )
        },
        "/v2/repository/index": {
            "post": operation(
                "protocol_index",
                _PROTOCOL,
                "List the models; none before the bundle is loaded",
                json_answer("Every point and ensemble.", "RepositoryIndex"),
                refusals=_BODY,
                body={
                    "required": False,
                    "description": "May be empty. Models are always ready, so `ready` changes nothing.",
                    "content": {JSON: {"schema": ref("schemas", "RepositoryIndexRequest")}},
                },
            )
        },
    }
    for versioned in (False, True):
        routes |= _protocol_model(operation, versioned)
    return routes


def _protocol_model(operation: Operations, versioned: bool) -> Json:
    root = "/v2/models/{model}" + ("/versions/{version}" if versioned else "")
    suffix = "_version" if versioned else ""
    parameters = ("Model", "Version") if versioned else ("Model",)
    infer_answer = answer(
        "Tensors, in the order in which they were asked for. Those asked for as binary data follow the JSON document, "
        f"and the content type is {BINARY}.",
        {
            JSON: {"schema": ref("schemas", "InferResponse"), "example": INFER_ANSWER},
            BINARY: {"schema": {"type": "string", "format": "binary"}},
        },
    )
    # Only in an answer with binary tensors.
    infer_answer["headers"] = infer_answer["headers"] | {
        "Inference-Header-Content-Length": {
            "description": "Bytes of the JSON document, where binary tensors follow it.",
            "schema": {"type": "integer", "minimum": 0},
        }
    }
    return {
        root: {
            "get": operation(
                f"protocol_model{suffix}",
                _PROTOCOL,
                "A model's input and outputs",
                json_answer("Tensors with -1 where a dimension is free.", "ModelMetadata"),
                refusals=(404, 503),
                parameters=parameters,
            )
        },
        f"{root}/ready": {
            "get": operation(
                f"protocol_model_ready{suffix}",
                _PROTOCOL,
                "Whether a model answers",
                json_answer("It does.", "ModelReady"),
                refusals=(404,),
                others={503: _not_ready("ModelReady", "Error")},
                parameters=parameters,
            )
        },
        f"{root}/config": {
            "get": operation(
                f"protocol_configuration{suffix}",
                _PROTOCOL,
                "A model's configuration, as Triton has it",
                json_answer("The configuration.", "ModelConfiguration"),
                refusals=(404, 503),
                parameters=parameters,
            )
        },
        f"{root}/infer": {
            "post": operation(
                f"protocol_infer{suffix}",
                _PROTOCOL,
                "Classify a tensor of images",
                infer_answer,
                description="`tritonclient.http` works unchanged. A body without a content type is taken as JSON. "
                "The parameters choose as the options of /predict do; lists are JSON strings.",
                refusals=_ASKED,
                body={
                    "required": True,
                    "content": {
                        JSON: {"schema": ref("schemas", "InferRequest"), "examples": INFER_REQUESTS},
                        BINARY: {
                            "schema": {
                                "type": "string",
                                "format": "binary",
                                "description": "The JSON document of an InferRequest without `data`, its length in the "
                                "header Inference-Header-Content-Length, and after it the tensor's bytes: row-major, "
                                "little-endian.",
                            },
                            "examples": BINARY_INFER_REQUEST,
                        },
                    },
                },
                parameters=(*parameters, "JsonLength"),
            )
        },
    }


def _models(operation: Operations) -> Json:
    return {
        "/models": {
            "get": operation(
                "models",
                "models",
                "What there is to ask",
                json_answer("Points, ensembles, labels, and the pixels that they take.", "Models", MODELS),
                refusals=(503,),
            )
        },
        "/playground": {
            "get": operation(
                "playground",
                "models",
                "A page to try the models in a browser",
                answer("The page.", {"text/html": {"schema": {"type": "string"}}}),
                is_open=True,
            )
        },
        "/": {
            "get": operation(
                "root",
                "models",
                "Leads to the playground",
                answer("The playground's address, relative to this one.", {}, {"Location": "Location"}),
                is_open=True,
                status=307,
            )
        },
    }


def _service(operation: Operations, settings: Settings) -> Json:
    text: Json = {"text/plain": {"schema": {"type": "string"}}}
    refusals = (409, 500) if settings.token is not None else (403, 409, 500)
    return {
        "/livez": {
            "get": operation("live", "operation", "Whether the process answers", answer("It does.", text), is_open=True)
        },
        "/readyz": {
            "get": operation(
                "ready",
                "operation",
                "Whether requests should be sent here",
                answer("They should.", text),
                others={503: _not_ready("Error")},
                is_open=True,
            )
        },
        "/metrics": {
            "get": operation("metrics", "operation", "Metrics for Prometheus", answer("Its text format.", text))
        },
        "/docs.json": {
            "get": operation(
                "document",
                "operation",
                "This document",
                answer("An OpenAPI 3.1 document.", {JSON: {"schema": {"type": "object", "required": ["openapi"]}}}),
            )
        },
        "/admin/reload": {
            "post": operation(
                "reload",
                "operation",
                "Replace the bundle by what its folder holds now",
                json_answer("Every worker serves the new bundle.", "Reloaded"),
                description="Takes no body. Answers when every worker has verified and loaded the new bundle; requests "
                "are answered from the old one until then. Only a server that was started with a token does it.",
                refusals=refusals,
            )
        },
    }


def _not_ready(*names: str) -> Json:
    choices = [ref("schemas", name) for name in names]
    schema = choices[0] if len(choices) == 1 else {"oneOf": choices}
    return answer(
        "The bundle is still being loaded, or the server is shutting down.",
        {JSON: {"schema": schema}},
        {"Retry-After": "RetryAfter"},
    )
