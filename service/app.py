"""The HTTP interface: routes, bodies and statuses. A client's mistake is never a 5xx."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from python_multipart.exceptions import FormParserError
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from service.engine import Engine, NotReadyError
from service.metrics import Metrics, MetricsMiddleware
from service.requests import RequestError, parse_fields, parse_json
from service.work import DeadlineError, OverloadedError
from subspace_serve.bundle.images import ImageTooLargeError
from subspace_serve.bundle.selection import SelectionError, UnknownModelError
from subspace_serve.errors import DataError

RETRY_AFTER = {"Retry-After": "1"}

_POINT_FIELDS = {"alpha", "coefficients", "metrics", "temperature"}

_MAX_FIELDS = 100
_MAX_FIELD_BYTES = 64 * 1024

Result = TypeVar("Result")


def create_app(engine: Engine, metrics: Metrics) -> ASGIApp:
    """Return the application that answers for an engine; the caller starts and closes the engine."""
    endpoints = _Endpoints(engine, metrics)
    routes = [
        Route("/predict", endpoints.predict, methods=["POST"]),
        Route("/predict_image", endpoints.predict_image, methods=["POST"]),
        Route("/models", endpoints.models, methods=["GET"]),
        Route("/metrics", endpoints.scrape, methods=["GET"]),
    ]
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        DataError: _refuse(400),
        SelectionError: _refuse(400),
        UnknownModelError: _refuse(404),
        ImageTooLargeError: _refuse(413),
        OverloadedError: _refuse(429, "too many requests are waiting; try again later", RETRY_AFTER),
        NotReadyError: _refuse(503, "the bundle is still being loaded; try again later", RETRY_AFTER),
        DeadlineError: _refuse(504, f"no answer within the deadline of {engine.settings.deadline:g} s"),
        ClientDisconnect: _refuse(400, "the body ended early"),
        HTTPException: _http_error,
        Exception: _refuse(500, "the server failed; its log has the reason"),
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return MetricsMiddleware(app, metrics, frozenset(route.path for route in routes))


class _Endpoints:
    """The routes' functions."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics

    async def predict(self, request: Request) -> Response:
        arrival = time.monotonic()
        _check_headers(request, "application/json")
        body = await self._received(_limited(request, self._engine.settings.max_body).body())

        def parse() -> tuple[Any, Any]:
            parsed = parse_json(body)
            return parsed, parsed.images

        return JSONResponse(await self._engine.answer(parse, arrival))

    async def predict_image(self, request: Request) -> Response:
        arrival = time.monotonic()
        _check_headers(request, "multipart/form-data")
        limited = _limited(request, self._engine.settings.max_body)
        try:
            form = await self._received(
                limited.form(
                    max_files=self._engine.settings.max_images,
                    max_fields=_MAX_FIELDS,
                    max_part_size=_MAX_FIELD_BYTES,
                )
            )
            fields = [
                (name, await value.read() if isinstance(value, UploadFile) else value)
                for name, value in form.multi_items()
            ]
        except FormParserError as error:
            raise RequestError(f"the form cannot be read: {error}") from None
        finally:
            await limited.close()
        return JSONResponse(await self._engine.answer(lambda: parse_fields(fields), arrival))

    async def models(self, request: Request) -> Response:
        predictor = self._engine.predictor
        manifest = predictor.bundle.manifest
        points = [
            {"name": name, "type": "point"} | point.model_dump(include=_POINT_FIELDS)
            for name, point in manifest.points.items()
        ]
        ensembles = [
            {"name": name, "type": "ensemble"} | ensemble.model_dump(exclude={"temperature_fit"})
            for name, ensemble in predictor.ensembles.items()
        ]
        return JSONResponse(
            {
                "default": predictor.default,
                "models": points + ensembles,
                "labels": manifest.labels,
                "input": manifest.input.model_dump(exclude={"preprocessing"}),
            }
        )

    async def scrape(self, request: Request) -> Response:
        content, media_type = await asyncio.to_thread(self._metrics.render)
        return Response(content, media_type=media_type)

    async def _received(self, body: Awaitable[Result]) -> Result:
        try:
            return await asyncio.wait_for(body, self._engine.settings.deadline)
        except asyncio.TimeoutError:
            raise HTTPException(408, "the body did not arrive in time") from None


def _check_headers(request: Request, expected: str) -> None:
    content_type = request.headers.get("content-type", "")
    if content_type.split(";")[0].strip().lower() != expected:
        raise HTTPException(415, f"got the content type {content_type!r:.120}, expected {expected}")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise HTTPException(415, f"got the content encoding {encoding!r:.120}; send the body as it is")
    if request.url.query:
        raise RequestError("options go into the body; got some in the address, where they would have no effect")


def _limited(request: Request, limit: int) -> Request:
    """Return the request with a body that is refused as soon as it is known to be over the limit."""
    message = f"the body is over the limit of {limit} bytes"
    received = 0

    async def receive() -> Message:
        nonlocal received
        if int(request.headers.get("content-length", 0)) > limit:
            raise HTTPException(413, message)
        part = await request.receive()
        received += len(part.get("body", b""))
        if received > limit:
            raise HTTPException(413, message)
        return part

    return Request(request.scope, receive)


def _refuse(
    status: int, message: str | None = None, headers: dict[str, str] | None = None
) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return a handler that answers with a status and a message, the error's own unless given."""

    async def handle(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": message or str(error)}, status, headers)

    return handle


async def _http_error(request: Request, error: HTTPException) -> Response:
    message = error.detail
    if error.status_code == 404:
        message = f"there is no route {request.url.path!r:.120}"
    elif error.status_code == 405:
        message = f"{request.url.path} does not take {request.method:.20}; it takes {(error.headers or {})['Allow']}"
    return JSONResponse({"error": message}, error.status_code, error.headers)
