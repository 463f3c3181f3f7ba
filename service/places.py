"""Networks between a bundle's points: built when they are first asked for, kept while there is room.

Everything but the building happens on the event loop, so nothing here is locked. Workers share nothing but the
bundle's files: each builds for itself, within its share of the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from service.job import DeadlineError
from service.metrics import Metrics
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.selection import Built, Member, SelectionError
from subspace_serve.bundle.session import PointSession, Run
from subspace_serve.bundle.subspace import check_answers
from subspace_serve.bundle.verify import read_golden

MOST_WAITING = 16
"""How many networks may wait to be built, or be being built, in a worker."""
_NICE = 10  # so that builds give way to the graphs that answer


MOST_OF_A_REQUEST = 8
"""How many places between points one request may name."""


class TooManyPlacesError(Exception):
    """Too many new places are waiting to be built."""


class Pinned:
    """A predictor's points, and networks between them, which stay in memory as long as this object does."""

    def __init__(self, predictor: Predictor, sessions: dict[Built, PointSession]) -> None:
        self._predictor = predictor
        self._sessions = sessions

    def logits(self, member: Member, images: np.ndarray, run: Run | None = None) -> np.ndarray:
        """Return one network's logits (N, classes)."""
        if isinstance(member, Built):
            return self._sessions[member].logits(images, run)
        return self._predictor.logits(member, images, run)


class Places:
    """The networks that one predictor's subspace has been asked for, the most recently used last.

    Args:
        predictor: whose subspace it is.
        memory: how many bytes they may take together; there is always room for one.
        metrics: where builds, hits and evictions are counted.
    """

    def __init__(self, predictor: Predictor, memory: int, metrics: Metrics) -> None:
        if predictor.subspace is None:
            raise ValueError("the predictor has no subspace")
        self._predictor = predictor
        self._subspace = predictor.subspace
        self._metrics = metrics
        self._most = max(1, memory // self._subspace.session_bytes)
        # One image shows whether answers are finite; for a large network eight would take longer than the whole build.
        self._golden = read_golden(predictor.bundle)[0][:1]
        self._kept: OrderedDict[Built, PointSession] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._building: dict[Built, asyncio.Future[PointSession]] = {}
        # Requests for the same places share one of these, so that they can share a batch.
        self._pinned: weakref.WeakValueDictionary[tuple[Built, ...], Pinned] = weakref.WeakValueDictionary()
        # With more threads, ONNX Runtime's own would inherit the lower priority and keep it while they answer.
        give_way = _give_way if predictor.threads == 1 else None
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="build", initializer=give_way)

    async def pinned(self, places: tuple[Built, ...], deadline: float) -> Pinned:
        """Return what answers at some places; requests for the same new place share one build.

        Args:
            places: which networks.
            deadline: on the clock of `time.monotonic`.

        Raises:
            SelectionError: there are more places than one request may ask for.
            TooManyPlacesError: too many are waiting to be built.
            DeadlineError: they were not built in time; builds that were begun are finished and kept.
            BundleError: a network answers with numbers that are not finite.
        """
        if len(places) > MOST_OF_A_REQUEST:
            raise SelectionError(
                f"{len(places)} places between points are asked for at once; at most {MOST_OF_A_REQUEST} are answered"
            )
        self._loop = asyncio.get_running_loop()
        new = [place for place in places if place not in self._kept and place not in self._building]
        if new and len(self._building) + len(new) > MOST_WAITING:
            raise TooManyPlacesError
        self._metrics.alpha_hits.inc(len(places) - len(new))
        for place in new:
            self._begin(place)
        sessions = {place: self._kept[place] for place in places if place in self._kept}
        for place in sessions:
            self._kept.move_to_end(place)
        if builds := {place: self._building[place] for place in places if place not in sessions}:
            # Shielded, since other requests may be waiting for the same build when this one is given up.
            built = asyncio.gather(*map(asyncio.shield, builds.values()))
            try:
                sessions |= zip(
                    builds, await asyncio.wait_for(built, max(0.0, deadline - time.monotonic())), strict=True
                )
            except asyncio.TimeoutError:
                raise DeadlineError from None
        pinned = self._pinned.get(places)
        if pinned is None:
            pinned = self._pinned[places] = Pinned(self._predictor, sessions)
        return pinned

    def let_go(self) -> None:
        """Drop all networks and keep no more: another bundle answers now. Places still asked for are built and dropped.

        May be called from any thread.
        """
        if self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
            self._loop.call_soon_threadsafe(self._empty)

    def close(self) -> None:
        """Build nothing more."""
        self._builder.shutdown(wait=False, cancel_futures=True)

    def _empty(self) -> None:
        self._most = 0
        self._trim()

    def _begin(self, place: Built) -> None:
        future = asyncio.get_running_loop().run_in_executor(self._builder, self._build, place)
        self._building[place] = future
        future.add_done_callback(partial(self._keep, place))

    def _build(self, place: Built) -> PointSession:
        start = time.monotonic()
        session = self._subspace.session(place.alpha, place.statistics)
        check_answers(session, self._golden, f"the network at {place}")
        self._metrics.alpha_build_seconds.observe(time.monotonic() - start)
        return session

    def _keep(self, place: Built, future: asyncio.Future[PointSession]) -> None:
        del self._building[place]
        if future.cancelled() or future.exception() is not None:
            return
        self._kept[place] = future.result()
        self._metrics.alpha_bytes.inc(self._subspace.session_bytes)
        self._trim()

    def _trim(self) -> None:
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
            self._metrics.alpha_evictions.inc()
            self._metrics.alpha_bytes.dec(self._subspace.session_bytes)


def _give_way() -> None:
    """Lower this thread's priority, where the system has priorities of threads (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
