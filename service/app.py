"""The HTTP interface: routes and statuses. A client's mistake is never a 5xx."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from service.bodies import Bodies
from service.engine import Engine
from service.envelope import Envelope
from service.inference_protocol.routes import ProtocolEndpoints
from service.metrics import Metrics
from service.openapi import openapi_document
from service.operations import OPERATIONS
from service.playground import page
from service.record import Record
from service.refusals import REFUSALS, refuse
from service.requests import parse_form, parse_json
from service.responses import Models, Reloaded
from service.staging import BusyError
from service.tracing import Tracing
from subspace_serve.errors import BundleError

_Endpoint = Callable[[Request], Awaitable[Response]]

_POINT_FIELDS = {"alpha", "coefficients", "metrics", "temperature"}
_SMALL = 256 * 1024  # bytes of JSON that are parsed on the event loop


def create_app(engine: Engine, metrics: Metrics, tracing: Tracing | None = None) -> ASGIApp:
    """Return the application that answers for an engine; the caller starts and closes the engine."""
    settings = engine.settings
    bodies = Bodies(settings)
    functions = _Endpoints(engine, metrics, bodies).by_operation() | ProtocolEndpoints(engine, bodies).by_operation()
    routes = [Route(operation.path, functions[operation.name], methods=[operation.method]) for operation in OPERATIONS]
    app = Starlette(routes=routes, exception_handlers=_handlers())
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


class _Endpoints:
    """The functions of the routes that are not the Open Inference Protocol's."""

    def __init__(self, engine: Engine, metrics: Metrics, bodies: Bodies) -> None:
        self._engine = engine
        self._metrics = metrics
        self._bodies = bodies

    def by_operation(self) -> dict[str, _Endpoint]:
        """Return each operation's function, by the names of `service.operations`."""
        return {
            "predict": self.predict,
            "predict_image": self.predict_image,
            "models": self.models,
            "live": self.live,
            "ready": self.ready,
            "metrics": self.scrape,
            "document": self.openapi,
            "playground": self.playground,
            "root": self.root,
            "reload": self.reload,
        }

    async def predict(self, request: Request) -> Response:
        engine, record = self._engine, Record.of(request.scope)
        body = await self._bodies.read(request, ["application/json"])
        with engine.admitted():
            if len(body) > _SMALL:
                parsed = await engine.parsed(lambda: parse_json(body), record)
            else:
                parsed = parse_json(body)
            question = parsed.question(engine.settings, large=len(body) > _SMALL)
            answer = await engine.answer(question, record, request.receive)
        return JSONResponse(answer.to_json(parsed.top_k, parsed.return_members))

    async def predict_image(self, request: Request) -> Response:
        engine = self._engine
        parsed = parse_form(await self._bodies.read_form(request))
        with engine.admitted():
            answer = await engine.answer(parsed.question(engine.settings), Record.of(request.scope), request.receive)
        return JSONResponse(answer.to_json(parsed.top_k, parsed.return_members))

    async def models(self, request: Request) -> Response:
        loaded = self._engine.loaded
        predictor = loaded.predictor
        manifest = predictor.bundle.manifest
        points: list[Any] = [
            {"name": name, "type": "point", **point.model_dump(include=_POINT_FIELDS)}
            for name, point in predictor.points.items()
        ]
        ensembles: list[Any] = [
            {"name": name, "type": "ensemble", **ensemble.model_dump(exclude={"temperature_fit"})}
            for name, ensemble in predictor.ensembles.items()
        ]
        input: Any = manifest.input.model_dump(exclude={"preprocessing"})
        document: Models = {
            "default": predictor.default,
            "bundle": {"sha256": loaded.sha256},
            "models": points + ensembles,
            "labels": list(manifest.labels),
            "input": input,
        }
        return JSONResponse(document)

    async def live(self, request: Request) -> Response:
        return PlainTextResponse("live\n")

    async def ready(self, request: Request) -> Response:
        if not self._engine.ready:
            state = "draining" if self._engine.draining else "the bundle is being loaded"
            return refuse(503, f"not ready: {state}")
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
            return refuse(409, f"still serving the old bundle: {error}")
        return JSONResponse(Reloaded(bundle={"sha256": sha256}))


def _handlers() -> dict[Any, Callable[[Request, Any], Awaitable[Response]]]:
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {HTTPException: _http_error}
    for status, refusal in REFUSALS.items():
        handlers |= {error: _handler(status, message) for error, message in refusal.errors.items()}
    return handlers


def _handler(status: int, message: str | None) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return what answers an exception with a status and a message, the exception's own unless given."""

    async def handle(request: Request, error: Exception) -> Response:
        return refuse(status, message or str(error))

    return handle


async def _http_error(request: Request, error: HTTPException) -> Response:
    message = error.detail
    if error.status_code == 404:
        message = f"there is no route {request.url.path!r:.120}"
    elif error.status_code == 405:
        message = f"{request.url.path} does not take {request.method:.20}; it takes {(error.headers or {})['Allow']}"
    return refuse(error.status_code, message, error.headers)
