"""The routes of the Open Inference Protocol."""

from __future__ import annotations

import functools

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.bodies import Bodies, disconnected
from service.documents import RequestError, load_json
from service.engine import Engine
from service.inference_protocol.documents import InferBytes, InferRequest, RepositoryIndexRequest
from service.inference_protocol.metadata import (
    VERSION,
    IndexEntry,
    Live,
    ModelConfiguration,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
    check_model,
    model_configuration,
    model_metadata,
    repository_index,
    server_metadata,
)
from service.inference_protocol.request import json_length, parse_infer
from service.inference_protocol.response import InferResponse, infer_response
from service.operations import BINARY, JSON, Bytes, operation
from service.record import Record
from service.refusals import RETRY_AFTER, Error
from subspace_serve.bundle.manifest import describe

# Clients of the protocol send JSON without saying so, and binary tensors as bytes.
_CONTENT_TYPES = ("", "application/json", "application/octet-stream")
_operation = functools.partial(operation, tag="open inference protocol")


class ProtocolEndpoints:
    """The functions of the routes under /v2."""

    def __init__(self, engine: Engine, bodies: Bodies) -> None:
        self._engine = engine
        self._bodies = bodies

    @_operation(
        "POST /v2/models/{model}/infer",
        {JSON: InferResponse, BINARY: Bytes},
        body={JSON: InferRequest, BINARY: InferBytes},
        refusals=(500, 503, 504),
    )
    async def infer(self, request: Request) -> Response:
        """Classify a tensor of images.

        `tritonclient.http` works unchanged. A body without a content type is taken as JSON. The parameters choose as
        the options of /predict do; lists are JSON strings. Outputs come in the order in which they were asked for;
        those asked for as binary data follow the JSON document, and the content type is then application/octet-stream.
        """
        record = Record.of(request.scope)
        name = request.path_params["model"]
        body = await self._bodies.read(request, _CONTENT_TYPES)
        engine = self._engine
        with engine.admitted():
            self._check(request)
            size = json_length(body, request.headers.get("inference-header-content-length"))
            infer = await engine.parsed(lambda: parse_infer(body, size), size, record)
            body = b""  # not held while the request waits for its turn
            answer = await engine.answer(
                infer.question(name, engine.settings), record, functools.partial(disconnected, request.receive)
            )
        return infer_response(infer.document, answer, name)

    @_operation("GET /v2/models/{model}", {JSON: ModelMetadata}, refusals=(503,))
    async def model(self, request: Request) -> Response:
        """A model's input and outputs, with -1 where a dimension is free."""
        self._check(request)
        return JSONResponse(model_metadata(self._engine.loaded.predictor, request.path_params["model"]))

    @_operation("GET /v2/models/{model}/ready", {JSON: ModelReady}, unready=ModelReady | Error)
    async def model_ready(self, request: Request) -> Response:
        """Whether a model answers."""
        self._check(request)
        return self._ready(ModelReady(name=request.path_params["model"], ready=self._engine.ready))

    @_operation("GET /v2/models/{model}/config", {JSON: ModelConfiguration}, refusals=(503,))
    async def configuration(self, request: Request) -> Response:
        """A model's configuration, as Triton has it."""
        self._check(request)
        predictor, most = self._engine.loaded.predictor, self._engine.settings.max_images
        return JSONResponse(model_configuration(predictor, request.path_params["model"], most))

    @_operation("GET /v2", {JSON: ServerMetadata})
    async def server(self, request: Request) -> Response:
        """The server and its extensions."""
        return JSONResponse(server_metadata())

    @_operation("GET /v2/health/live", {JSON: Live}, is_probe=True)
    async def live(self, request: Request) -> Response:
        """Whether the process answers."""
        return JSONResponse(Live(live=True))

    @_operation("GET /v2/health/ready", {JSON: Ready}, unready=Ready, is_probe=True)
    async def ready(self, request: Request) -> Response:
        """Whether requests should be sent here."""
        return self._ready(Ready(ready=self._engine.ready))

    @_operation(
        "POST /v2/repository/index", {JSON: list[IndexEntry]}, body={JSON: RepositoryIndexRequest}, takes_empty=True
    )
    async def index(self, request: Request) -> Response:
        """List the models; none before the bundle is loaded.

        The body may be empty. Models are always ready, so `ready` changes nothing.
        """
        body = await self._bodies.read(request, _CONTENT_TYPES)
        try:
            RepositoryIndexRequest.model_validate(load_json(body) if body else {})
        except ValidationError as error:
            raise RequestError(f"the request is not valid: {describe(error)}") from None
        return JSONResponse(repository_index(self._engine.loaded.predictor if self._engine.ready else None))

    def _ready(self, document: Ready | ModelReady) -> Response:
        return JSONResponse(document) if document["ready"] else JSONResponse(document, 503, RETRY_AFTER)

    def _check(self, request: Request) -> None:
        parameters = request.path_params
        check_model(self._engine.loaded.predictor, parameters["model"], parameters.get("version", VERSION))
