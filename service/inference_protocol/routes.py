"""The routes of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.bodies import Bodies
from service.engine import Engine
from service.inference_protocol.metadata import (
    VERSION,
    check_model,
    model_configuration,
    model_metadata,
    repository_index,
    server_metadata,
)
from service.inference_protocol.request import RepositoryIndexRequest, parse_infer
from service.inference_protocol.response import infer_response
from service.record import Record
from service.refusals import RETRY_AFTER
from service.requests import RequestError, load_json
from subspace_serve.bundle.manifest import describe

# Clients of the protocol send JSON without saying so, and binary tensors as bytes.
_CONTENT_TYPES = ("", "application/json", "application/octet-stream")
_SMALL = 256 * 1024  # bytes of JSON that are parsed on the event loop


class ProtocolEndpoints:
    """The functions of the routes under /v2."""

    def __init__(self, engine: Engine, bodies: Bodies) -> None:
        self._engine = engine
        self._bodies = bodies

    def by_operation(self) -> dict[str, Callable[[Request], Awaitable[Response]]]:
        """Return each operation's function, by the names of `service.operations`."""
        of_model = {
            "protocol_infer": self.infer,
            "protocol_model": self.model,
            "protocol_model_ready": self.model_ready,
            "protocol_configuration": self.configuration,
        }
        return {
            **of_model,
            **{f"{name}_version": function for name, function in of_model.items()},
            "protocol_server": self.server,
            "protocol_live": self.live,
            "protocol_ready": self.ready,
            "protocol_index": self.index,
        }

    async def server(self, request: Request) -> Response:
        return JSONResponse(server_metadata())

    async def live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        if not self._engine.ready:
            return JSONResponse({"ready": False}, 503, RETRY_AFTER)
        return JSONResponse({"ready": True})

    async def index(self, request: Request) -> Response:
        body = await self._bodies.read(request, _CONTENT_TYPES)
        try:
            RepositoryIndexRequest.model_validate(load_json(body) if body else {})
        except ValidationError as error:
            raise RequestError(f"the request is not valid: {describe(error)}") from None
        return JSONResponse(repository_index(self._engine.loaded.predictor if self._engine.ready else None))

    async def model(self, request: Request) -> Response:
        self._check(request)
        return JSONResponse(model_metadata(self._engine.loaded.predictor, request.path_params["model"]))

    async def model_ready(self, request: Request) -> Response:
        self._check(request)
        document = {"name": request.path_params["model"], "ready": self._engine.ready}
        return JSONResponse(document) if self._engine.ready else JSONResponse(document, 503, RETRY_AFTER)

    async def configuration(self, request: Request) -> Response:
        self._check(request)
        return JSONResponse(
            model_configuration(
                self._engine.loaded.predictor, request.path_params["model"], self._engine.settings.max_images
            )
        )

    async def infer(self, request: Request) -> Response:
        record = Record.of(request.scope)
        name = request.path_params["model"]
        body = await self._bodies.read(request, _CONTENT_TYPES)
        header_length = request.headers.get("inference-header-content-length")
        engine = self._engine
        with engine.admitted():
            self._check(request)
            if header_length is None and len(body) > _SMALL:
                infer = await engine.parsed(lambda: parse_infer(body, header_length), record)
            else:
                infer = parse_infer(body, header_length)
            answer = await engine.answer(infer.question(name, engine.settings), record, request.receive)
        return infer_response(infer.document, answer, name)

    def _check(self, request: Request) -> None:
        parameters = request.path_params
        check_model(self._engine.loaded.predictor, parameters["model"], parameters.get("version", VERSION))
