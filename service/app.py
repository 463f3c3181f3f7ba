"""The HTTP interface: routes and statuses. A client's mistake is never a 5xx."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from service.bodies import RETRY_AFTER, Bodies
from service.engine import ClientGoneError, Engine, OverloadedError
from service.envelope import Envelope
from service.inference_protocol.routes import protocol_routes
from service.job import DeadlineError, QuorumError
from service.loading import NotReadyError
from service.metrics import Metrics
from service.openapi import openapi_document
from service.playground import page
from service.record import Record
from service.requests import parse_fields, parse_json
from service.staging import BusyError
from service.tracing import Tracing
from subspace_serve.bundle.images import ImageTooLargeError
from subspace_serve.bundle.selection import SelectionError, UnknownModelError
from subspace_serve.errors import BundleError, DataError

_POINT_FIELDS = {"alpha", "coefficients", "metrics", "temperature"}
_SMALL = 256 * 1024  # bytes of JSON that are parsed on the event loop
_CLIENT_GONE = 499  # for the log alone: nobody receives it


def create_app(engine: Engine, metrics: Metrics, tracing: Tracing | None = None) -> ASGIApp:
    """Return the application that answers for an engine; the caller starts and closes the engine."""
    settings = engine.settings
    bodies = Bodies(settings)
    endpoints = _Endpoints(engine, metrics, bodies)
    routes = [  # they are tried in this order
        Route("/predict", endpoints.predict, methods=["POST"]),
        Route("/predict_image", endpoints.predict_image, methods=["POST"]),
        *protocol_routes(engine, bodies),
        Route("/models", endpoints.models, methods=["GET"]),
        Route("/livez", endpoints.live, methods=["GET"]),
        Route("/readyz", endpoints.ready, methods=["GET"]),
        Route("/metrics", endpoints.scrape, methods=["GET"]),
        Route("/docs.json", endpoints.openapi, methods=["GET"]),
        Route("/playground", endpoints.playground, methods=["GET"]),
        Route("/", endpoints.root, methods=["GET"]),
        Route("/admin/reload", endpoints.reload, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers=_handlers())
    app.router.redirect_slashes = False
    enveloped: ASGIApp = Envelope(app, engine, metrics, tracing, [route.path for route in routes])
    if settings.cors_origins:
        enveloped = CORSMiddleware(
            enveloped,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id", "inference-header-content-length"],
            expose_headers=["x-request-id", "retry-after", "inference-header-content-length"],
        )
    return enveloped


class _Endpoints:
    """The functions of the routes that are not the Open Inference Protocol's."""

    def __init__(self, engine: Engine, metrics: Metrics, bodies: Bodies) -> None:
        self._engine = engine
        self._metrics = metrics
        self._bodies = bodies

    async def predict(self, request: Request) -> Response:
        engine, record = self._engine, Record.of(request.scope)
        body = await self._bodies.read(request, ["application/json"])
        with engine.admitted():
            if len(body) > _SMALL:
                parsed = await engine.parsed(lambda: parse_json(body), record)
            else:
                parsed = parse_json(body)
            question = parsed.question(parsed.images, engine.settings, large=len(body) > _SMALL)
            answer = await engine.answer(question, record, request.receive)
        return JSONResponse(answer.to_json(parsed.top_k, parsed.return_members))

    async def predict_image(self, request: Request) -> Response:
        engine = self._engine
        options, files = parse_fields(await self._bodies.read_form(request))
        with engine.admitted():
            question = options.question(files, engine.settings)
            answer = await engine.answer(question, Record.of(request.scope), request.receive)
        return JSONResponse(answer.to_json(options.top_k, options.return_members))

    async def models(self, request: Request) -> Response:
        loaded = self._engine.loaded
        predictor = loaded.predictor
        points = [
            {"name": name, "type": "point"} | point.model_dump(include=_POINT_FIELDS)
            for name, point in predictor.points.items()
        ]
        ensembles = [
            {"name": name, "type": "ensemble"} | ensemble.model_dump(exclude={"temperature_fit"})
            for name, ensemble in predictor.ensembles.items()
        ]
        manifest = predictor.bundle.manifest
        return JSONResponse(
            {
                "default": predictor.default,
                "bundle": {"sha256": loaded.sha256},
                "models": points + ensembles,
                "labels": manifest.labels,
                "input": manifest.input.model_dump(exclude={"preprocessing"}),
            }
        )

    async def live(self, request: Request) -> Response:
        return PlainTextResponse("live\n")

    async def ready(self, request: Request) -> Response:
        if not self._engine.ready:
            state = "draining" if self._engine.draining else "the bundle is being loaded"
            return JSONResponse({"error": f"not ready: {state}"}, 503, RETRY_AFTER)
        return PlainTextResponse("ready\n")

    async def scrape(self, request: Request) -> Response:
        content, media_type = await asyncio.to_thread(self._metrics.render)
        return Response(content, media_type=media_type)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(openapi_document(self._engine.settings))

    async def playground(self, request: Request) -> Response:
        content, headers = page()
        return Response(content, headers=headers)

    async def root(self, request: Request) -> Response:
        return RedirectResponse("playground", 307)  # relative: a proxy may have put it anywhere

    async def reload(self, request: Request) -> Response:
        if self._engine.settings.token is None:
            raise HTTPException(403, "reloading over HTTP needs a token; start the server with one, or send SIGHUP")
        try:
            sha256 = await self._engine.reload()
        except (BundleError, BusyError) as error:
            return JSONResponse({"error": f"still serving the old bundle: {error}"}, 409)
        return JSONResponse({"bundle": {"sha256": sha256}})


def _handlers() -> dict[Any, Callable[[Request, Any], Awaitable[Response]]]:
    return {
        DataError: _refuse(400),
        SelectionError: _refuse(400),
        UnknownModelError: _refuse(404),
        ImageTooLargeError: _refuse(413),
        OverloadedError: _refuse(429, "too many requests are waiting; try again later", RETRY_AFTER),
        NotReadyError: _refuse(503, "the bundle is still being loaded; try again later", RETRY_AFTER),
        QuorumError: _refuse(503, headers=RETRY_AFTER),
        DeadlineError: _refuse(504),
        ClientDisconnect: _refuse(400, "the body ended early"),
        ClientGoneError: _refuse(_CLIENT_GONE, "the client went away"),
        HTTPException: _http_error,
        Exception: _refuse(500, "the server failed; its log has the reason"),
    }


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
