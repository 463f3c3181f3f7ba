"""The loaded bundle and the threads that work on requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from service.metrics import Metrics
from service.requests import Options, image_array
from service.settings import Settings
from service.work import WorkQueue
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.reader import Bundle
from subspace_serve.errors import SubspaceServeError

# A child of BentoML's logger: its handlers are the ones that a BentoML server sets up.
logger = logging.getLogger("bentoml.subspace_serve")

Parsed = tuple[Options, Sequence[Any]]


class NotReadyError(Exception):
    """The bundle is still being loaded."""


class Engine:
    """Loads a bundle in the background and answers requests from it, off the event loop."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.failure: str | None = None
        self._metrics = metrics
        self._predictor: Predictor | None = None
        self._work = WorkQueue(settings.concurrency, settings.queue)

    def start(self) -> threading.Thread:
        """Begin to load; `ready` turns true when every point has answered once."""
        thread = threading.Thread(target=self._load, name="load", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Take no more work."""
        self._work.close()

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self._predictor is not None

    @property
    def predictor(self) -> Predictor:
        """The loaded bundle. Raises `NotReadyError` before it is."""
        if self._predictor is None:
            raise NotReadyError
        return self._predictor

    async def answer(self, parse: Callable[[], Parsed], arrival: float) -> dict[str, Any]:
        """Parse a request, decode its images and predict, all in one place of the queue.

        Raises what parsing and prediction raise, `OverloadedError`, `DeadlineError`, `NotReadyError`.
        """
        predictor = self.predictor
        with self._metrics.held.track_inprogress():
            return await self._work.run(lambda: self._predict(predictor, *parse()), arrival + self.settings.deadline)

    def _predict(self, predictor: Predictor, options: Options, images: Sequence[Any]) -> dict[str, Any]:
        # The names first: a request for a model that is not there costs no decoding.
        selection = predictor.select(options.model, options.members, options.weights, options.aggregate)
        pixels = image_array(images, predictor.bundle.manifest.input, self.settings, options.resize)
        start = time.monotonic()
        prediction = predictor.predict(pixels, selection)
        model = selection.model or "custom"
        self._metrics.inference_seconds.labels(model).observe(time.monotonic() - start)
        self._metrics.images.labels(model).inc(len(pixels))
        return prediction.to_json(predictor.bundle.labels, top_k=options.top_k, return_members=options.return_members)

    def _load(self) -> None:
        start = time.monotonic()
        try:
            predictor = make_predictor(self.settings)
            providers = predictor.load()
        except Exception as error:  # whatever it is, the worker must say so and not look as if it were starting
            self.failure = str(error)
            logger.critical("cannot serve: %s", error, exc_info=not isinstance(error, SubspaceServeError))
            return
        for name, provider in providers.items():
            logger.info("%s runs on %s", name, provider)
        logger.info(
            "serving %s: %d points, %d ensembles, default %s, %d threads, ready in %.2f s",
            self.settings.bundle,
            len(providers),
            len(predictor.ensembles),
            predictor.default,
            self.settings.threads_per_worker,
            time.monotonic() - start,
        )
        self._predictor = predictor


def make_predictor(settings: Settings) -> Predictor:
    """Open the bundle, hashes checked, with the configured ensembles and default; no graph is loaded yet."""
    return Predictor(
        Bundle.open(settings.bundle),
        device=settings.device,
        threads=settings.threads_per_worker,
        ensembles=settings.ensembles,
        default=settings.default,
    )
