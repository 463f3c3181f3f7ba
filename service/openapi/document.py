"""The OpenAPI document, put together from the table of routes, the refusals, and the types of requests and answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from service.openapi.examples import EXAMPLES
from service.operations import BINARY, FORM, JSON, Operation
from service.refusals import REFUSALS, Error
from service.requests import ImageFile
from service.schemas import Json, schemas_of
from service.settings import Settings

_IMAGE_TYPES = "image/png, image/jpeg, image/webp, image/gif, image/bmp, image/tiff"

_LENGTH = "Inference-Header-Content-Length"

_HEADERS: Json = {
    "X-Request-ID": {
        "description": "The request's own X-Request-ID, else one made up; the server's log has it.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which to ask again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "`Bearer`.", "required": True, "schema": {"type": "string"}},
    "Location": {"description": "The other address.", "required": True, "schema": {"type": "string"}},
    "Allow": {"description": "The methods that the route takes.", "required": True, "schema": {"type": "string"}},
    _LENGTH: {  # only in an answer with binary tensors
        "description": "Bytes of the JSON document, where binary tensors follow it.",
        "schema": {"type": "integer", "minimum": 0},
    },
}

_PARAMETERS: Json = {
    "RequestId": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "A name for the request: up to 128 letters, digits and `._:/+=-`. Another one is replaced.",
        "schema": {"type": "string"},
        "example": "3f2a9c1e",
    },
    _LENGTH: {
        "name": _LENGTH,
        "in": "header",
        "description": "Bytes of the JSON document, where binary tensors follow it; absent when none do.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "model": {
        "name": "model",
        "in": "path",
        "required": True,
        "description": "A point or an ensemble, by its name in `GET /models`.",
        "schema": {"$ref": "#/components/schemas/ModelName"},
    },
    "version": {
        "name": "version",
        "in": "path",
        "required": True,
        "description": "Always 1: a bundle is replaced as a whole.",
        "schema": {"type": "string", "const": "1"},
        "example": "1",
    },
}


def paths_and_components(operations: Sequence[Operation], settings: Settings) -> tuple[Json, Json]:
    """Return the document's paths and components for a server with these settings."""
    types: dict[Any, tuple[Any, bool]] = {"error": (Error, False)}
    for operation in operations:
        types |= {(operation.name, "body", media): (type, True) for media, type in operation.body.items()}
        types |= {(operation.name, "answer", media): (type, False) for media, type in operation.content.items()}
        if operation.unready is not None:
            types[operation.name, "unready"] = (operation.unready, False)
    by_use, schemas = schemas_of(types)
    _add_limits(schemas, settings)
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, by_use, settings)
    limits = settings.model_dump(include={"deadline", "max_body", "max_pixels"})
    responses = {
        f"Refused{status}": _answer(
            refusal.description.format_map(limits),
            {JSON: {"schema": by_use["error"]}},
            ["Allow"] if status == 405 else refusal.headers.keys() & _HEADERS.keys(),
        )
        for status, refusal in REFUSALS.items()
        if refusal.description is not None
    }
    components = {"schemas": schemas, "responses": responses, "parameters": _PARAMETERS, "headers": _HEADERS}
    return paths, components


def _operation(operation: Operation, schemas: dict[Any, Json], settings: Settings) -> Json:
    name = operation.name

    def content(use: str, medias: Iterable[str]) -> Json:
        examples = {media: EXAMPLES.get((name.removesuffix("_version"), use, media), {}) for media in medias}
        return {media: {"schema": schemas[name, use, media]} | example for media, example in examples.items()}

    needs_token = settings.token is not None and not operation.is_open
    refusals = {405, *operation.refusals} | ({401} if needs_token else set())
    if settings.token is not None:
        refusals.discard(403)  # the answer only of a server without a token
    headers = (["Location"] if operation.status == 307 else []) + ([_LENGTH] if BINARY in operation.content else [])
    responses: dict[int, Json] = {
        operation.status: _answer("What was asked for.", content("answer", operation.content), headers)
    }
    responses |= {status: _reference("responses", f"Refused{status}") for status in refusals}
    if operation.unready is not None:
        responses[503] = _answer(
            "The bundle is still being loaded, or the server is shutting down.",
            {JSON: {"schema": schemas[name, "unready"]}},
            REFUSALS[503].headers,
        )
    summary, _, description = operation.documentation.partition("\n\n")
    document: Json = {"operationId": name, "tags": [operation.tag], "summary": summary.rstrip(".")}
    if description:
        document["description"] = " ".join(description.split())
    parameters = [
        "RequestId",
        *re.findall(r"{(\w+)}", operation.path),
        *([_LENGTH] if BINARY in operation.body else []),
    ]
    document["parameters"] = [_reference("parameters", parameter) for parameter in parameters]
    if operation.body:
        body = content("body", operation.body)
        if FORM in body:
            body[FORM]["encoding"] = {"images": {"contentType": _IMAGE_TYPES}}
        document["requestBody"] = {"required": not operation.takes_empty, "content": body}
    document["responses"] = {str(status): responses[status] for status in sorted(responses)}
    if settings.token is not None and operation.is_open:
        document["security"] = []
    return document


def _answer(description: str, content: Json, headers: Iterable[str] = ()) -> Json:
    """Return a response object; `headers` are those besides X-Request-ID."""
    references = {name: _reference("headers", name) for name in ("X-Request-ID", *sorted(headers))}
    return {"description": description, "headers": references, "content": content}


def _reference(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _add_limits(schemas: Json, settings: Settings) -> None:
    """Add this server's limits to the schemas."""
    count, pixels = settings.max_images, settings.max_pixels
    limits = {"description": f"At most {count} images.", "maxItems": count}
    schemas["PredictRequest"]["properties"]["images"] |= limits
    schemas["PredictForm"]["properties"]["images"] |= limits | {
        "description": f"At most {count} files of at most {pixels} pixels."
    }
    schemas[ImageFile.__name__]["description"] = f"A PNG, JPEG, WebP, GIF, BMP or TIFF file of at most {pixels} pixels."
    schemas["InputTensor"]["properties"]["shape"]["description"] = (
        f"Four numbers: images, of which there may be {count}, and an image's shape."
    )
