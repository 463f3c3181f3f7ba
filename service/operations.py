"""Routes: a decorator holds all that the application and the OpenAPI document need to know about an endpoint."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

JSON = "application/json"
BINARY = "application/octet-stream"
FORM = "multipart/form-data"
TEXT = "text/plain"

Bytes = Annotated[str, Field(json_schema_extra={"format": "binary"})]
Tag = Literal["prediction", "open inference protocol", "models", "operation"]

_Method = TypeVar("_Method", bound=Callable[..., Awaitable[Response]])


@dataclass(frozen=True)
class Operation:
    """A route. Its endpoint's docstring is its summary and description.

    `body` is what it takes, and `content` what it answers with `status` on success: types by media type. `refusals`
    are the statuses of `service.refusals` that it may answer; 401 is added where there is a token. `unready` is the
    type of a 503 of its own. A route that `is_open` needs no token. Probes are open, and are not logged or traced.
    `takes_empty` says that the body may be empty.
    """

    name: str
    method: str
    path: str
    tag: Tag
    documentation: str
    body: Mapping[str, Any]
    content: Mapping[str, Any]
    refusals: frozenset[int]
    status: int
    unready: Any
    is_open: bool
    is_probe: bool
    takes_empty: bool


def operation(
    route: str,
    content: Mapping[str, Any],
    *,
    tag: Tag = "operation",
    body: Mapping[str, Any] | None = None,
    refusals: tuple[int, ...] = (),
    status: int = 200,
    unready: Any = None,
    is_open: bool = False,
    is_probe: bool = False,
    takes_empty: bool = False,
) -> Callable[[_Method], _Method]:
    """Make a method the endpoint of a route, such as `GET /models`.

    A protocol's route on a model is also one with a version.

    To `refusals` are added 405, those that come with a body, and 404 for a route on a model.
    """
    method, path = route.split()
    common = {405, *refusals} | ({400, 408, 413, 415, 429} if body else set()) | ({404} if "{model}" in path else set())

    def decorate(function: _Method) -> _Method:
        name = ("protocol_" if tag == "open inference protocol" else "") + function.__name__
        found = Operation(
            name, method, path, tag, inspect.getdoc(function) or "", body or {}, content, frozenset(common), status,
            unready, is_open or is_probe, is_probe, takes_empty,
        )  # fmt: skip
        versioned = path.replace("{model}", "{model}/versions/{version}")
        has_version = tag == "open inference protocol" and versioned != path
        of_version = [replace(found, name=name + "_version", path=versioned)] if has_version else []
        function.operations = [found, *of_version]  # type: ignore[attr-defined]
        return function

    return decorate


def operations_of(endpoints: type) -> list[tuple[Operation, Callable[[Any, Request], Awaitable[Response]]]]:
    """Return the routes of a class with the functions that answer them, in order."""
    return [(found, function) for function in vars(endpoints).values() for found in getattr(function, "operations", ())]
