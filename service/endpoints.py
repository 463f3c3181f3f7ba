"""The service's own routes; those of the Open Inference Protocol are in `service.inference_protocol`."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import WithJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from service.bodies import Bodies, disconnected
from service.drift import DriftAlarm
from service.engine import LARGE_JSON, Engine
from service.inference_protocol.routes import ProtocolEndpoints
from service.openapi import openapi_document
from service.operations import FORM, JSON, TEXT, operation, operations_of
from service.playground import page
from service.record import Record
from service.refusals import Error, refuse
from service.requests import PredictForm, PredictRequest, parse_form, parse_json
from service.responses import Drift, Models, Predictions, Reloaded, Subspace
from service.staging import BusyError
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.selection import UnknownModelError
from subspace_serve.errors import BundleError

_POINT_FIELDS = {"alpha", "statistics", "coefficients", "metrics", "temperature", "precision"}
_NOT_LISTED = {"temperature_fit", "sets", "abstention", "drift", "fused"}
_Document = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "required": ["openapi"]})]


class Endpoints:
    """The functions of these routes, for one engine."""

    def __init__(self, engine: Engine, bodies: Bodies) -> None:
        self._engine = engine
        self._bodies = bodies

    @operation(
        "POST /predict",
        {JSON: Predictions},
        tag="prediction",
        body={JSON: PredictRequest},
        refusals=(404, 500, 503, 504),
    )
    async def predict(self, request: Request) -> Response:
        """Classify pixels, or image files in base64.

        The options have no place in the address: a query string is refused.
        """
        record = Record.of(request.scope)
        body = await self._bodies.read(request, [JSON])
        with self._engine.admitted():
            size = len(body)
            parsed = await self._engine.parsed(lambda: parse_json(body), size, record)
            body = b""  # not held while the request waits for its turn
            return await self._answer(parsed, request, is_large=size > LARGE_JSON)

    @operation(
        "POST /predict_image",
        {JSON: Predictions},
        tag="prediction",
        body={FORM: PredictForm},
        refusals=(404, 500, 503, 504),
    )
    async def predict_image(self, request: Request) -> Response:
        """Classify image files of a form.

        With curl: `curl -F images=@cat.png -F model=endpoints http://…/predict_image`. PNG, JPEG, WebP, GIF, BMP and
        TIFF; the contents count, not the declared type. Lists are repeated fields, or one field with commas.
        """
        parsed = parse_form(await self._bodies.read_form(request))
        with self._engine.admitted():
            return await self._answer(parsed, request)

    @operation("GET /models", {JSON: Models}, tag="models", refusals=(503,))
    async def models(self, request: Request) -> Response:
        """The models, labels, input, subspace and domains that requests can name."""
        loaded = self._engine.loaded
        predictor = loaded.predictor
        manifest = predictor.bundle.manifest
        points: list[Any] = [
            {"name": name, "type": "point", **point.model_dump(include=_POINT_FIELDS)}
            for name, point in predictor.points.items()
        ]
        for entry in points:
            if (float_point := predictor.bundle.float_points.get(entry["name"])) is not None:
                entry["float_point"] = float_point
        ensembles: list[Any] = [
            {"name": name, "type": "ensemble", **ensemble.model_dump(exclude=_NOT_LISTED)}
            for name, ensemble in predictor.ensembles.items()
        ]
        domains: list[Any] = [
            {"name": name, **domain.model_dump(include={"statistics", "alpha", "temperature"})}
            for name, domain in manifest.domains.items()
        ]
        input: Any = manifest.input.model_dump(exclude={"preprocessing"})
        document: Models = {
            "default": predictor.default,
            "bundle": {"sha256": loaded.sha256},
            "models": points + ensembles,
            "labels": list(manifest.labels),
            "input": input,
            "subspace": subspace_document(predictor),
            "domains": domains,
        }
        return JSONResponse(document)

    @operation("GET /models/{model}/drift", {JSON: Drift}, tag="models", refusals=(503,))
    async def drift(self, request: Request) -> Response:
        """Whether the images that a model answers have changed.

        Of a point's or an ensemble's own answers alone, as it was exported; without labels. In a stream without a
        change there is ever an alarm with a probability of at most 5 %.
        """
        return await self._drift(lambda alarm: alarm.document(request.path_params["model"]))

    @operation("POST /models/{model}/drift/reset", {JSON: Drift}, tag="models", refusals=(403, 429, 503))
    async def reset_drift(self, request: Request) -> Response:
        """Begin to watch a model anew, and answer as `GET /models/{model}/drift`.

        Takes no body. Only a server that was started with a token does it.
        """
        if self._engine.settings.token is None:
            raise HTTPException(403, "a reset over HTTP needs a token; start the server with one, or restart it")
        return await self._drift(lambda alarm: alarm.reset(request.path_params["model"]))

    @operation("GET /livez", {TEXT: str}, is_probe=True)
    async def live(self, request: Request) -> Response:
        """Whether the process answers."""
        return PlainTextResponse("live\n")

    @operation("GET /readyz", {TEXT: str}, unready=Error, is_probe=True)
    async def ready(self, request: Request) -> Response:
        """Whether requests should be sent here."""
        if not self._engine.ready:
            state = "draining" if self._engine.draining else "the bundle is being loaded"
            return refuse(503, f"not ready: {state}")
        return PlainTextResponse("ready\n")

    @operation("GET /metrics", {TEXT: str})
    async def metrics(self, request: Request) -> Response:
        """Metrics for Prometheus, in its text format."""
        if self._engine.ready and (alarm := self._engine.loaded.drift) is not None:
            await asyncio.to_thread(alarm.refresh)
        content, media_type = await asyncio.to_thread(self._engine.metrics.render)
        return Response(content, media_type=media_type)

    @operation("GET /docs.json", {JSON: _Document})
    async def document(self, request: Request) -> Response:
        """This document."""
        return JSONResponse(openapi_document(self._engine.settings, OPERATIONS))

    @operation("GET /playground", {"text/html": str}, tag="models", is_open=True)
    async def playground(self, request: Request) -> Response:
        """A page to try the models in a browser."""
        content, headers = page()
        return Response(content, headers=headers)

    @operation("GET /", {}, tag="models", status=307, is_open=True)
    async def root(self, request: Request) -> Response:
        """Redirects to the playground."""
        return RedirectResponse("playground", 307)  # relative, since a proxy may serve it under any path

    @operation("POST /admin/reload", {JSON: Reloaded}, refusals=(403, 409, 500))
    async def reload(self, request: Request) -> Response:
        """Replace the bundle by what its folder holds now.

        Takes no body. Answers when every worker has verified and loaded the new bundle; requests are answered from the
        old one until then. Only a server that was started with a token does it.
        """
        if self._engine.settings.token is None:
            raise HTTPException(403, "reloading over HTTP needs a token; start the server with one, or send SIGHUP")
        try:
            sha256 = await self._engine.reload()
        except (BundleError, BusyError) as error:
            return refuse(409, f"still serving the old bundle: {error}")
        return JSONResponse(Reloaded(bundle={"sha256": sha256}))

    async def _drift(self, ask: Callable[[DriftAlarm], Drift]) -> Response:
        alarm = self._engine.loaded.drift
        if alarm is None:
            raise UnknownModelError("nothing is watched for drift here; start the server without --no-drift")
        try:
            return JSONResponse(await asyncio.to_thread(ask, alarm))
        except OSError as error:
            return refuse(503, f"the drift alarm cannot use its state folder ({error.strerror}); look at its disk")

    async def _answer(self, parsed: PredictRequest, request: Request, is_large: bool = False) -> Response:
        question = parsed.question(self._engine.settings, large=is_large)
        answer = await self._engine.answer(
            question, Record.of(request.scope), functools.partial(disconnected, request.receive)
        )
        return JSONResponse(answer.to_json(parsed.top_k, parsed.return_members))


def subspace_document(predictor: Predictor) -> Subspace | None:
    """Return the description of the subspace for clients; None if no places but those of points are served."""
    subspace, models = predictor.subspace, predictor.models
    if subspace is None:
        return None
    geometry = subspace.geometry
    several = f"{geometry.endpoints} numbers from 0 to 1 that sum to 1"
    return Subspace(
        geometry=geometry.name,
        endpoints=geometry.endpoints,
        alpha=several if geometry.barycentric else "a number from 0 to 1",
        step=models.step,
        statistics=list(subspace.sets),
    )


OPERATIONS = [found for endpoints in (Endpoints, ProtocolEndpoints) for found, _ in operations_of(endpoints)]
"""Every route of the service."""
