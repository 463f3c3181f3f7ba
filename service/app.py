"""The HTTP interface: routes and statuses. A client's mistake is never a 5xx."""

from __future__ import annotations

import functools
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from service.bodies import Bodies
from service.endpoints import Endpoints
from service.engine import Engine
from service.envelope import Envelope
from service.inference_protocol.routes import ProtocolEndpoints
from service.metrics import Metrics
from service.operations import operations_of
from service.refusals import STATUSES, refuse, refused
from service.tracing import Tracing


def create_app(engine: Engine, metrics: Metrics, tracing: Tracing | None = None) -> ASGIApp:
    """Return the application that answers for an engine; the caller starts and closes the engine."""
    settings = engine.settings
    bodies = Bodies(settings)
    routes = [
        Route(found.path, functools.partial(function, endpoints), methods=[found.method])
        for endpoints in (ProtocolEndpoints(engine, bodies), Endpoints(engine, bodies))
        for found, function in operations_of(type(endpoints))
    ]
    # Routes are tried in order: those that carry images come first.
    routes.sort(key=lambda route: "POST" not in (route.methods or ()))
    handlers: dict[Any, Any] = {HTTPException: _http_error, **dict.fromkeys(STATUSES, _refused)}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    enveloped: ASGIApp = Envelope(app, engine, metrics, tracing)
    if settings.cors_origins:
        enveloped = CORSMiddleware(
            enveloped,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id", "inference-header-content-length"],
            expose_headers=["x-request-id", "retry-after", "inference-header-content-length"],
        )
    return enveloped


async def _refused(request: Request, error: Exception) -> Response:
    return refuse(*refused(error))


async def _http_error(request: Request, error: HTTPException) -> Response:
    # Not the URL's, which fails where the query is not UTF-8.
    message, path = error.detail, request.scope["path"]
    if error.status_code == 404:
        message = f"there is no route {path!r:.120}"
    elif error.status_code == 405:
        message = f"{path} does not take {request.method:.20}; it takes {(error.headers or {})['Allow']}"
    return refuse(error.status_code, message, error.headers)
