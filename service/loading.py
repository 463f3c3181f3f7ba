"""Loads the bundle in the background, and then every bundle that replaces it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.drift import DriftAlarm
from service.logs import logger
from service.metrics import Metrics
from service.places import Places
from service.settings import Settings
from service.staging import State, make_predictor, reload
from subspace_serve.bundle.predict import Predictor
from subspace_serve.errors import BundleError, SubspaceServeError
from subspace_serve.files import MANIFEST_FILE, sha256_of

_FOLLOW_SECONDS = 0.2
_COLLECTOR_THRESHOLDS = (50_000, 20, 100)


class NotReadyError(Exception):
    """The bundle is still being loaded."""


@dataclass(frozen=True)
class Loaded:
    """A bundle whose every graph is loaded and has answered once; `sha256` is its manifest's.

    `places` are its networks between points; None if only its points answer. `drift` watches its answers; None where
    nobody does.
    """

    predictor: Predictor
    providers: dict[str, str]
    sha256: str
    places: Places | None = None
    drift: DriftAlarm | None = None


class Loader:
    """Holds the bundle that answers. With a state folder, every bundle that is staged there replaces it."""

    def __init__(self, settings: Settings, state: State | None, metrics: Metrics) -> None:
        self.failure: str | None = None
        self._settings = settings
        self._metrics = metrics
        self._state = state
        self._loaded: Loaded | None = None
        self._closed = threading.Event()

    def start(self, on_failure: Callable[[], object]) -> threading.Thread:
        """Start loading the bundle, and return the thread that does; replacements are loaded on another thread.

        `on_failure` is called if the first bundle cannot be loaded.
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
        if self._loaded is not None and self._loaded.drift is not None:
            self._loaded.drift.close()

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
        except Exception as error:  # of any kind: the worker must not seem to be starting up for ever
            self.failure = str(error)
            logger.critical("cannot serve: %s", error, exc_info=not isinstance(error, SubspaceServeError))
            on_failure()
            return
        if self._state is not None:
            follow = threading.Thread(target=self._follow, args=[self._state, staged], name="follow", daemon=True)
            follow.start()

    def _follow(self, state: State, tried: Path | None) -> None:
        """Load what is staged, until the server ends. If a bundle cannot be loaded, the old one stays in place."""
        while not self._closed.wait(_FOLLOW_SECONDS):
            staged = state.current()
            # None if the state folder was removed; the bundle it was staged from is unverified, and not loaded instead.
            if staged is None or staged == tried:
                continue
            tried = staged
            try:
                self._load(staged)
            except Exception as error:  # it was verified when staged; memory may have run out
                logger.critical("still serving the old bundle: %s", error)

    def _load(self, staged: Path | None) -> None:
        start = time.monotonic()
        # A staged bundle has passed its gates; which of its points did not, if they may answer in float, is found here.
        gates = staged is None or self._settings.precision_gate == "float"
        predictor = make_predictor(self._settings, staged, gates=gates)
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
        drift = DriftAlarm(predictor, sha256, self._metrics, self._state) if self._settings.drift else None
        before = self._loaded
        # A single assignment: requests in flight keep the bundle that they started with.
        self._loaded = Loaded(predictor, providers, sha256, places, drift)
        if before is not None and before.places is not None:
            before.places.let_go()
        if before is not None and before.drift is not None:
            before.drift.close(successor=drift)
        _settle_memory()
        if self._state is not None and staged is not None:
            self._state.serves(staged)


def _settle_memory() -> None:
    """Keep the garbage collector from traversing everything that was imported and loaded, again and again.

    An image in JSON is a thousand lists, so with its default thresholds the collector would run several times for each
    image; that was half of the time of such a request.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)
