"""The service as BentoML starts it.

BentoML wants the number of workers when this module is imported, so the environment is read here, once; see
`service.settings`.
"""

from __future__ import annotations

import os

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")  # before BentoML looks

import bentoml
from starlette.exceptions import HTTPException

from service.app import RETRY_AFTER, create_app
from service.engine import Engine, make_predictor
from service.metrics import Metrics
from service.settings import Settings

# The service's own deadline answers first; BentoML's is the last resort for an answer that never begins. It holds a
# timer for every request until this time has passed, answered or not, so it must not be long.
_GRACE_SECONDS = 5

_settings = Settings.from_environment()
_metrics = Metrics()
_engine = Engine(_settings, _metrics)


@bentoml.service(
    name="subspace-serve",
    workers=_settings.workers,
    traffic={"timeout": _settings.deadline + _GRACE_SECONDS},
    # BentoML's own metrics carry the raw path as a label; `service.metrics` takes their place.
    metrics={"enabled": False},
    # No spans while nobody collects them: that timer would hold each.
    tracing={"excluded_urls": ".*"},
    # BentoML's access log fails on a content type that is not UTF-8, and the answer with it.
    logging={"access": {"request_content_type": False}},
)
@bentoml.asgi_app(create_app(_engine, _metrics), path="/")
class SubspaceService:
    """Classifies images with the points and ensembles of one bundle."""

    @bentoml.on_deployment
    def check() -> None:
        """Refuse, before any worker starts, what no worker could serve."""
        make_predictor(_settings)

    @bentoml.on_startup
    def start(self) -> None:
        """Load in the background: until that is done, requests are answered 503 and not kept waiting."""
        _engine.start()

    @bentoml.on_shutdown
    def stop(self) -> None:
        """Take no more work."""
        _engine.close()
        _metrics.close()

    def __is_alive__(self) -> bool:
        """Live unless the bundle could not be loaded."""
        return _engine.failure is None

    def __is_ready__(self) -> bool:
        """Ready when every point has answered once."""
        if not _engine.ready:
            raise HTTPException(503, "the bundle is not loaded", RETRY_AFTER)
        return True
