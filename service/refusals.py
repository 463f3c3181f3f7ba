"""Every status that refuses a request: when it does, what the answer says, and its text in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from typing_extensions import TypedDict

from service.engine import ClientGoneError, OverloadedError
from service.job import DeadlineError, QuorumError
from service.loading import NotReadyError
from service.places import TooManyPlacesError
from subspace_serve.bundle.images import ImageTooLargeError
from subspace_serve.bundle.selection import SelectionError, UnknownModelError
from subspace_serve.errors import DataError, GeometryError

FULL = "too many requests are waiting; try again later"
RETRY_AFTER = {"Retry-After": "1"}


class Error(TypedDict):
    """What was wrong, what was found, what to do."""

    error: str


@dataclass(frozen=True)
class Refusal:
    """One status. `reason` is its label in metrics, `code` its name in gRPC; `headers` come with every such answer.

    `errors` are the exceptions that lead to it, each with the message to send; None sends the exception's own. Without
    a `description` it is left out of the OpenAPI document.
    """

    reason: str
    code: str
    description: str | None = None
    errors: Mapping[type[Exception], str | None] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


REFUSALS = {
    400: Refusal(
        "invalid",
        "INVALID_ARGUMENT",
        "Malformed: what was wrong, what was found, what is expected.",
        {DataError: None, SelectionError: None, GeometryError: None, ClientDisconnect: "the body ended early"},
    ),
    401: Refusal(
        "token",
        "UNAUTHENTICATED",
        "The header Authorization is missing, or its token is wrong.",
        headers={"WWW-Authenticate": "Bearer"},
    ),
    403: Refusal(
        "forbidden",
        "PERMISSION_DENIED",
        "This server was started without a token, so it neither reloads (send it SIGHUP) nor resets over HTTP.",
    ),
    404: Refusal(
        "unknown",
        "NOT_FOUND",
        "There is no such model, member, domain or version; the message says which there are.",
        {UnknownModelError: None},
    ),
    405: Refusal("method", "UNIMPLEMENTED", "The route does not take this method."),
    408: Refusal(
        "slow_body",
        "DEADLINE_EXCEEDED",
        "The body did not arrive within {deadline:g} s.",
        headers={"Connection": "close"},
    ),
    409: Refusal(
        "bad_bundle",
        "ABORTED",
        "The new bundle does not hold, or another reload is under way; the old bundle is still served.",
    ),
    413: Refusal(
        "too_large",
        "RESOURCE_EXHAUSTED",
        "The body is over {max_body} bytes, or an image file over {max_pixels} pixels.",
        {ImageTooLargeError: None},
    ),
    415: Refusal(
        "content_type", "UNIMPLEMENTED", "A content type or a content encoding that this route does not take."
    ),
    429: Refusal(
        "queue_full",
        "RESOURCE_EXHAUSTED",
        "Too many requests or new places are waiting, or too many bytes are being received.",
        {OverloadedError: FULL, TooManyPlacesError: "too many new places are being built; try again later"},
        RETRY_AFTER,
    ),
    # For the log only: nobody receives it.
    499: Refusal("client_gone", "CANCELLED", errors={ClientGoneError: "the client went away"}),
    500: Refusal(
        "failure",
        "INTERNAL",
        "The server failed; its log has the reason, under the answer's X-Request-ID.",
        {Exception: "the server failed; its log has the reason"},
    ),
    503: Refusal(
        "unavailable",
        "UNAVAILABLE",
        "The bundle is still being loaded, fewer members answered than the quorum asks for, or its disk fails.",
        {NotReadyError: "the bundle is still being loaded; try again later", QuorumError: None},
        RETRY_AFTER,
    ),
    504: Refusal("deadline", "DEADLINE_EXCEEDED", "No answer within {deadline:g} s.", {DeadlineError: None}),
}


STATUSES = {
    error: (status, message) for status, refusal in REFUSALS.items() for error, message in refusal.errors.items()
}
"""The status and the message of every exception that leads to one; None is the exception's own message."""


def refused(error: Exception) -> tuple[int, str]:
    """Return the status and the message that answer an exception."""
    status, message = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    return status, message or str(error)


def refuse(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the answer that refuses a request; `headers` are added to the status's own."""
    return JSONResponse(Error(error=message), status, {**REFUSALS[status].headers, **(headers or {})})
