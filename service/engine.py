"""The way of a request: it is admitted, decoded, run and averaged."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from service.job import DeadlineError, Job, Points, QuorumError
from service.loading import Loaded, Loader, NotReadyError
from service.metrics import Metrics
from service.record import Record
from service.scheduler import Scheduler
from service.settings import Settings
from service.staging import BusyError, State
from subspace_serve.bundle.manifest import Aggregate, Input
from subspace_serve.bundle.predict import Prediction, combine
from subspace_serve.bundle.promises import NOTHING, Promises
from subspace_serve.bundle.selection import Selection, SelectionError, label
from subspace_serve.errors import SubspaceServeError
from subspace_serve.space.place import Alpha

CUSTOM = "custom"
"""Stands for the model in metrics where a request named only members."""
PLACE = "alpha"
"""Stands for the model in metrics where a request named a place."""

LARGE_JSON = 256 * 1024
"""Bytes of JSON above which parsing and decoding its images happen off the event loop."""

_PATIENCE_SECONDS = 0.05
_LARGE = 100_000  # so many logits or more are averaged on a thread, not on the event loop

Result = TypeVar("Result")


class OverloadedError(Exception):
    """The queue is full."""


class ClientGoneError(Exception):
    """The client has disconnected, so nobody is waiting for the answer."""


@dataclass(frozen=True)
class Question:
    """A parsed request: who should answer, and how its images become one array (N, ...) in the graph's format.

    `decode` takes the input's description and a deadline on the clock of `time.monotonic`, at which it may raise
    `DeadlineError`. `slow` says that decoding takes long enough to be kept off the event loop. `timeout` is the
    request's own limit in seconds.
    """

    decode: Callable[[Input, float], np.ndarray]
    slow: bool = False
    model: str | None = None
    members: Sequence[str | Alpha] | None = None
    weights: Sequence[float] | None = None
    aggregate: Aggregate | None = None
    alpha: Alpha | None = None
    domain: str | None = None
    promises: Promises = NOTHING
    timeout: float | None = None


@dataclass(frozen=True)
class Answer:
    """A prediction, the labels of the bundle that it came from, and what was to be promised of it."""

    prediction: Prediction
    labels: tuple[str, ...]
    promises: Promises = NOTHING

    def to_json(self, top_k: int, return_members: bool) -> dict[str, Any]:
        """Return the document of /predict."""
        return self.prediction.to_json(self.labels, top_k=top_k, return_members=return_members, promises=self.promises)


class Engine:
    """Answers requests from the bundle that is loaded: admits them, decodes, has graphs run, and averages."""

    def __init__(self, settings: Settings, metrics: Metrics, state: State | None = None) -> None:
        self.settings = settings
        self.metrics = metrics
        self.draining = False
        self._loader = Loader(settings, state, metrics)
        self._held = 0
        self._scheduler: Scheduler | None = None
        self._decoders = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="decode")

    def start(self, on_failure: Callable[[], object] = lambda: None) -> threading.Thread:
        """Start loading; see `Loader.start`."""
        return self._loader.start(on_failure)

    def close(self) -> None:
        """Take no more work."""
        self._loader.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        if self._scheduler is not None:
            self._scheduler.close()

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self._loader.is_loaded and not self.draining

    @property
    def failure(self) -> str | None:
        """Why the bundle could not be loaded."""
        return self._loader.failure

    @property
    def loaded(self) -> Loaded:
        """The bundle that answers now. Raises `NotReadyError` before there is one."""
        return self._loader.loaded

    @property
    def full(self) -> bool:
        """Whether another request would exceed `concurrency` and `queue`; abandoned batches count too."""
        free = self.settings.concurrency + self.settings.queue - self._held
        if self._scheduler is None or self._scheduler.batches < free:
            return free <= 0
        return self._scheduler.abandoned >= free

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold one of the bounded places while the block runs. Raises `OverloadedError`, `NotReadyError`."""
        if not self._loader.is_loaded:
            raise NotReadyError
        if self.full:
            raise OverloadedError
        self._held += 1
        self.metrics.held.inc()
        try:
            yield
        finally:
            self._held -= 1
            self.metrics.held.dec()

    async def off_loop(self, function: Callable[[], Result], deadline: float) -> Result:
        """Run a function on a decoder's thread. `deadline` is on the clock of `time.monotonic`.

        Raises `DeadlineError`, and what the function raises.
        """
        future = asyncio.wrap_future(self._decoders.submit(function))
        try:
            return await asyncio.wait_for(future, max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise DeadlineError from None

    async def parsed(self, parse: Callable[[], Result], size: int, record: Record) -> Result:
        """Parse `size` bytes of JSON, off the event loop if there are more than `LARGE_JSON`.

        Raises `DeadlineError` and what `parse` raises.
        """
        if size <= LARGE_JSON:
            return parse()
        begin = time.time_ns()
        try:
            result = await self.off_loop(parse, record.arrival + self.settings.deadline)
        except DeadlineError:
            raise self._deadline_passed() from None
        record.phases["decode"] = (begin, time.time_ns())
        return result

    async def answer(
        self, question: Question, record: Record, left: Callable[[], Awaitable[object]] | None = None
    ) -> Answer:
        """Decode a request's images and have them answered; to be called while `admitted`.

        Gives the work up when it is cancelled, or when what `left` returns says, by its end, that the client has left.
        Raises what decoding, selecting and `Places.pinned` raise, `DeadlineError`, `QuorumError`, `NotReadyError` and
        `ClientGoneError`.
        """
        try:
            return await self._answer(question, record, left)
        except DeadlineError:
            raise self._deadline_passed(question.timeout) from None

    def _deadline_passed(self, timeout: float | None = None) -> DeadlineError:
        """Say which deadline passed: the server's, or the request's own if that is sooner."""
        own, servers = timeout or float("inf"), self.settings.deadline
        which = f"the request's timeout of {own:g} s" if own < servers else f"the deadline of {servers:g} s"
        return DeadlineError(f"no answer within {which}")

    async def _answer(self, question: Question, record: Record, left: Callable[[], Awaitable[object]] | None) -> Answer:
        loaded = self.loaded
        predictor = loaded.predictor
        deadline = record.arrival + min(self.settings.deadline, question.timeout or float("inf"))
        # Selected first, so that a request for a model that does not exist costs no decoding.
        selection = predictor.select(
            question.model, question.members, question.weights, question.aggregate, question.alpha, question.domain
        )
        question.promises.check(selection)
        images = await self._decoded(question, predictor.bundle.manifest.input, record, deadline)
        points: Points = predictor
        if selection.built and loaded.places is not None:
            points = await loaded.places.pinned(selection.built, deadline)
        record.model = selection.model
        record.images = len(images)
        job = Job(points, selection.members, images, deadline, self._quorum(selection))
        try:
            with _LeavingWithClient(job, left) if left else contextlib.nullcontext():
                await self._scheduling.run(job)
        except QuorumError:
            raise QuorumError(_below_quorum(job)) from None
        finally:
            self._take_note(job, record)
        if job.failures:
            try:
                selection = selection.answered_by(job.answers)
            except SelectionError:  # those that answered have no weight
                raise QuorumError(_below_quorum(job)) from None
        prediction = await self._combined(job, selection, deadline)
        self.metrics.images(_label(selection)).inc(len(images))
        self.metrics.members(_label(selection)).observe(len(job.answers))
        if loaded.drift is not None:
            loaded.drift.observe(prediction, images)
        return Answer(prediction, predictor.bundle.labels, question.promises)

    async def reload(self) -> str:
        """Replace the bundle; see `Loader.reload`."""
        try:
            sha256 = await self._loader.reload()
        except BusyError:  # nothing failed; the other reload counts itself
            raise
        except SubspaceServeError:
            self.metrics.reloads("failed").inc()
            raise
        self.metrics.reloads("done").inc()
        return sha256

    @property
    def _scheduling(self) -> Scheduler:
        if self._scheduler is None:
            settings = self.settings
            on_cuda = any(not provider.startswith("CPU") for provider in self.loaded.providers.values())
            batches = settings.batching == "on" or (settings.batching == "auto" and on_cuda)
            self._scheduler = Scheduler(
                self.metrics,
                concurrency=settings.concurrency,
                max_batch=settings.max_batch if batches else 0,
                delay=settings.batch_delay,
            )
        return self._scheduler

    def _quorum(self, selection: Selection) -> int:
        return min(self.settings.quorum or len(selection.members), len(selection.members))

    async def _decoded(self, question: Question, input: Input, record: Record, deadline: float) -> np.ndarray:
        begin = time.time_ns()
        if question.slow:
            images = await self.off_loop(lambda: question.decode(input, deadline), deadline)
        else:
            images = question.decode(input, deadline)
        end = time.time_ns()
        # Parsing a large body has already started this phase.
        begin = record.phases.get("decode", (begin, end))[0]
        record.phases["decode"] = (begin, end)
        self.metrics.decode_seconds.observe((end - begin) / 1e9)
        return images

    def _take_note(self, job: Job, record: Record) -> None:
        record.phases |= job.phases()
        record.members = len(job.answers)
        for member, reason in job.failures.items():
            self.metrics.member_failures(label(member), reason).inc()

    async def _combined(self, job: Job, selection: Selection, deadline: float) -> Prediction:
        answers = [job.answers[member] for member in selection.members]
        logits = np.stack(answers) if len(answers) > 1 else answers[0][np.newaxis]
        if logits.size < _LARGE:
            prediction = combine(logits, selection, job.failures)
        else:
            prediction = await self.off_loop(lambda: combine(logits, selection, job.failures), deadline)
        if prediction.disagreement is not None:
            histogram = self.metrics.disagreement(_label(selection))
            for value in prediction.disagreement.tolist():
                histogram.observe(value)
        return prediction


class _LeavingWithClient:
    """Gives a job up when its client leaves; checked only for jobs that take a while, since checking has a cost."""

    def __init__(self, job: Job, left: Callable[[], Awaitable[object]]) -> None:
        self._job = job
        self._left = left
        self._watcher: asyncio.Future[None] | None = None

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._begin)

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _begin(self) -> None:
        self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        await self._left()
        if not self._job.done.done():
            self._job.done.set_exception(ClientGoneError())


def _label(selection: Selection) -> str:
    """Return a selection's label in metrics: a name from the bundle or a constant, never a client's numbers."""
    return selection.model or (CUSTOM if selection.aggregate else PLACE)


def _below_quorum(job: Job) -> str:
    reasons = "; ".join(f"{member}: {reason}" for member, reason in job.failures.items())
    return f"{len(job.answers)} of {len(job.members)} members answered and {job.quorum} are needed ({reasons})"
