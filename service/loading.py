"""Loads the bundle in the background, and what replaces it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.logs import logger
from service.metrics import Metrics
from service.places import Places
from service.settings import Settings
from service.staging import State, make_predictor, reload
from subspace_serve.bundle.manifest import MANIFEST_FILE
from subspace_serve.bundle.predict import Predictor
from subspace_serve.errors import BundleError, SubspaceServeError
from subspace_serve.files import sha256_of

_FOLLOW_SECONDS = 0.2
_COLLECTOR_THRESHOLDS = (50_000, 20, 100)


class NotReadyError(Exception):
    """The bundle is still being loaded."""


@dataclass(frozen=True)
class Loaded:
    """A bundle whose every graph is loaded and has answered once; `sha256` is its manifest's.

    `places` are its networks between points; None where it answers at its points only.
    """

    predictor: Predictor
    providers: dict[str, str]
    sha256: str
    places: Places | None = None


class Loader:
    """Holds the bundle that answers. With a state folder, what is staged there replaces it."""

    def __init__(self, settings: Settings, state: State | None, metrics: Metrics) -> None:
        self.failure: str | None = None
        self._settings = settings
        self._metrics = metrics
        self._state = state
        self._loaded: Loaded | None = None
        self._closed = threading.Event()

    def start(self, on_failure: Callable[[], object]) -> threading.Thread:
        """Begin to load, and return the thread that does; then go on with what replaces the bundle.

        `on_failure` is called when the first bundle cannot be loaded.
        """
        if self._state is not None:
            self._state.is_loading()
        thread = threading.Thread(target=self._load_first, args=[on_failure], name="load", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Load nothing more."""
        self._closed.set()
        if self._loaded is not None and self._loaded.places is not None:
            self._loaded.places.close()

    @property
    def is_loaded(self) -> bool:
        """Whether there is a bundle that answers."""
        return self._loaded is not None

    @property
    def loaded(self) -> Loaded:
        """The bundle that answers now. Raises `NotReadyError` before there is one."""
        if self._loaded is None:
            raise NotReadyError
        return self._loaded

    async def reload(self) -> str:
        """Replace the bundle; see `service.staging.reload`."""
        if self._state is None:
            raise BundleError("this server cannot reload, since it has no state folder; use subspace-serve serve")
        return await reload(self._settings, self._state)

    def _load_first(self, on_failure: Callable[[], object]) -> None:
        staged = self._state.current() if self._state else None
        try:
            self._load(staged)
        except Exception as error:  # whatever it is, the worker must say so and not look as if it were starting
            self.failure = str(error)
            logger.critical("cannot serve: %s", error, exc_info=not isinstance(error, SubspaceServeError))
            on_failure()
            return
        if self._state is not None:
            follow = threading.Thread(target=self._follow, args=[self._state, staged], name="follow", daemon=True)
            follow.start()

    def _follow(self, state: State, tried: Path | None) -> None:
        """Load what is staged, until the server ends. What cannot be loaded leaves the old bundle where it is."""
        while not self._closed.wait(_FOLLOW_SECONDS):
            staged = state.current()
            if (
                staged is None or staged == tried
            ):  # a folder that was removed is no reason to serve something unverified
                continue
            tried = staged
            try:
                self._load(staged)
            except Exception as error:  # it held when it was staged; memory may have run out
                logger.critical("still serving the old bundle: %s", error)

    def _load(self, staged: Path | None) -> None:
        start = time.monotonic()
        predictor = make_predictor(self._settings, staged)
        providers = predictor.load()
        sha256 = sha256_of(predictor.bundle.folder / MANIFEST_FILE)
        for name, provider in providers.items():
            logger.info("%s runs on %s", name, provider)
        logger.info(
            "serving %s (%s): %d points, %d ensembles, default %s, %d threads, ready in %.2f s",
            self._settings.bundle,
            sha256[:12],
            len(providers),
            len(predictor.ensembles),
            predictor.default,
            self._settings.threads_per_worker,
            time.monotonic() - start,
        )
        places = None
        if predictor.subspace is not None:
            places = Places(predictor, self._settings.alpha_memory // self._settings.workers, self._metrics)
        before = self._loaded
        # One assignment: requests in flight keep the bundle that they began with.
        self._loaded = Loaded(predictor, providers, sha256, places)
        if before is not None and before.places is not None:
            before.places.let_go()
        _settle_memory()
        if self._state is not None and staged is not None:
            self._state.serves(staged)


def _settle_memory() -> None:
    """Keep the garbage collector from looking through everything that was imported and loaded, again and again.

    An image in JSON is a thousand lists, and by its defaults the collector would start several times for each: that
    was half of the time of such a request.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)
