"""What the document's operations have in common: headers, parameters, refusals, and their own form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service.settings import Settings

Json = dict[str, Any]

JSON = "application/json"
BINARY = "application/octet-stream"


def ref(kind: str, name: str) -> Json:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


_ALWAYS = {"X-Request-ID": ref("headers", "RequestId")}

HEADERS: Json = {
    "RequestId": {
        "description": "The request's own X-Request-ID, else one made up; the server's log has it.",
        "required": True,
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "Seconds after which to ask again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Challenge": {"description": "`Bearer`.", "required": True, "schema": {"type": "string"}},
    "Location": {"description": "The other address.", "required": True, "schema": {"type": "string"}},
    "Allow": {"description": "The methods that the route takes.", "required": True, "schema": {"type": "string"}},
    "JsonLength": {
        "description": "Bytes of the JSON document at the beginning of a body with binary tensors after it.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
}

PARAMETERS: Json = {
    "RequestId": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "A name for the request: up to 128 letters, digits and `._:/+=-`. Another one is replaced.",
        "schema": {"type": "string"},
        "example": "3f2a9c1e",
    },
    "JsonLength": {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "Bytes of the JSON document, where binary tensors follow it; absent when none do.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Model": {
        "name": "model",
        "in": "path",
        "required": True,
        "description": "A point or an ensemble, by its name in `GET /models`.",
        "schema": ref("schemas", "ModelName"),
    },
    "Version": {
        "name": "version",
        "in": "path",
        "required": True,
        "description": "Always 1: a bundle is replaced as a whole.",
        "schema": {"type": "string", "const": "1"},
        "example": "1",
    },
}

_REFUSALS = {
    400: "Malformed: what was wrong, what was found, what is expected.",
    401: "The header Authorization is missing, or its token is wrong.",
    403: "This server was started without a token, so it does not reload over HTTP; send it SIGHUP.",
    404: "There is no such model, member or version; the message says which there are.",
    405: "The route does not take this method.",
    408: "The body did not arrive within {deadline:g} s.",
    409: "The new bundle does not hold, or another reload is under way; the old bundle is still served.",
    413: "The body is over {max_body} bytes, or an image file over {max_pixels} pixels.",
    415: "A content type or a content encoding that this route does not take.",
    429: "Too many requests are waiting, or too many bytes are being received.",
    500: "The server failed; its log has the reason, under the answer's X-Request-ID.",
    503: "The bundle is still being loaded, or fewer members answered than the quorum asks for.",
    504: "No answer within {deadline:g} s.",
}
_HEADERS_OF = {
    401: ("WWW-Authenticate", "Challenge"),
    405: ("Allow", "Allow"),
    429: ("Retry-After", "RetryAfter"),
    503: ("Retry-After", "RetryAfter"),
}


def responses(settings: Settings) -> Json:
    """Return the components of the refusals, by the names that `operation` refers to."""
    return {
        f"Refused{status}": answer(
            text.format_map(settings.model_dump(include={"deadline", "max_body", "max_pixels"})),
            {JSON: {"schema": ref("schemas", "Error")}},
            dict([_HEADERS_OF[status]]) if status in _HEADERS_OF else None,
        )
        for status, text in _REFUSALS.items()
    }


def answer(description: str, content: Json, headers: dict[str, str] | None = None) -> Json:
    """Return a response object; `headers` are names of HEADERS beside X-Request-ID."""
    more = {name: ref("headers", component) for name, component in (headers or {}).items()}
    return {"description": description, "headers": _ALWAYS | more, "content": content}


def json_answer(description: str, schema: str, example: Any = None) -> Json:
    """Return a response of JSON by its schema's name."""
    content: Json = {"schema": ref("schemas", schema)}
    if example is not None:
        content["example"] = example
    return answer(description, {JSON: content})


class Operations:
    """Puts operations together for one server's settings."""

    def __init__(self, settings: Settings) -> None:
        self._token = settings.token is not None

    def __call__(
        self,
        name: str,
        tag: str,
        summary: str,
        ok: Json,
        *,
        description: str | None = None,
        refusals: Iterable[int] = (),
        others: dict[int, Json] | None = None,
        body: Json | None = None,
        parameters: Iterable[str] = (),
        is_open: bool = False,
        status: int = 200,
    ) -> Json:
        """Return an operation object.

        `ok` is the answer when all is well, with `status`; `refusals` are statuses with the usual message, `others`
        answers of the operation's own, `parameters` names of PARAMETERS. An operation that `is_open` asks for no token.
        """
        needs_token = self._token and not is_open
        usual = {405, *refusals} | ({401} if needs_token else set())
        answers = {status: ok} | {refusal: ref("responses", f"Refused{refusal}") for refusal in usual} | (others or {})
        operation: Json = {"operationId": name, "tags": [tag], "summary": summary}
        if description is not None:
            operation["description"] = description
        operation["parameters"] = [ref("parameters", parameter) for parameter in ("RequestId", *parameters)]
        if body is not None:
            operation["requestBody"] = body
        operation["responses"] = {str(number): answers[number] for number in sorted(answers)}
        if self._token and is_open:
            operation["security"] = []
        return operation
