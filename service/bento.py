"""The service as BentoML starts it.

BentoML needs the number of workers when this module is imported, so the environment is read here, once; see
`service.settings`. The application answers as a middleware, before BentoML's own routes; `asgi_app`, which
`subspace-serve serve` runs, puts it before all of BentoML's middlewares too.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
from typing import TYPE_CHECKING

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")  # before BentoML looks

import bentoml
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from service.app import create_app
from service.engine import Engine
from service.grpc import check_installed
from service.lifecycle import drain_on_sigterm, end_when_orphaned, end_worker
from service.logs import configure_logging
from service.metrics import Metrics
from service.refusals import RETRY_AFTER
from service.settings import Settings
from service.staging import State, stage
from service.tracing import make_tracing
from subspace_serve.errors import SubspaceServeError

if TYPE_CHECKING:
    from service.grpc.server import GrpcServer

# BentoML holds a timer for every request until this time has passed, answered or not, so it must not be long; the
# service's own deadline answers first.
_GRACE_SECONDS = 5

_settings = Settings.from_environment()
_metrics = Metrics()
_tracing = make_tracing(_settings)
_state = State.from_environment()
_engine = Engine(_settings, _metrics, _state)
_application = create_app(_engine, _metrics, _tracing)
if _settings.grpc_port is not None:
    check_installed()


@bentoml.service(
    name="subspace-serve",
    workers=_settings.workers,
    traffic={"timeout": _settings.deadline + _GRACE_SECONDS},
    # The application has its own; BentoML's use the raw path as a label.
    metrics={"enabled": False},
    tracing={"excluded_urls": ".*"},
    logging={"access": {"enabled": False}},
)
class SubspaceService:
    """Classifies images with the points and ensembles of one bundle."""

    _grpc: GrpcServer | None = None

    @bentoml.on_deployment
    def check() -> None:
        """Exit, before any worker starts, if the bundle cannot be served."""
        if _state is not None:  # `subspace-serve serve` has done this
            return
        state = State.create()
        atexit.register(state.remove)
        os.environ.update(state.environment())
        try:
            stage(_settings, state)
        except SubspaceServeError as error:
            sys.exit(f"Error: {error}")

    @bentoml.on_startup
    async def start(self) -> None:
        """Load in the background; until that is done, requests are answered 503 rather than kept waiting.

        If other workers serve already, this one takes no requests from them before it can serve too.
        """
        configure_logging()
        drain_on_sigterm(_engine)
        end_when_orphaned()
        others_serve = _state is not None and any(_state.workers())
        loading = _engine.start(on_failure=end_worker)
        if others_serve:
            await asyncio.to_thread(loading.join)
        if _settings.grpc_port is not None:
            from service.grpc.server import GrpcServer

            self._grpc = GrpcServer(_engine, _metrics, _tracing)
            await self._grpc.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Take no more work."""
        if self._grpc is not None:
            await self._grpc.stop()
        _engine.close()
        _metrics.forget(os.getpid())
        if _tracing is not None:
            _tracing.close()

    def __is_ready__(self) -> bool:
        """Return True once every point has answered once, else raise `HTTPException` 503."""
        if not _engine.ready:
            raise HTTPException(503, "the bundle is not loaded", RETRY_AFTER)
        return True


class _AnswerRequests:
    """Answers every request itself; the application inside only gets the events of starting and stopping."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (_application if scope["type"] == "http" else self._app)(scope, receive, send)


SubspaceService.add_asgi_middleware(_AnswerRequests)  # type: ignore[attr-defined]


def asgi_app() -> ASGIApp:
    """Return the service as an ASGI application."""
    return _AnswerRequests(SubspaceService.to_asgi())  # type: ignore[attr-defined]
