"""Runs points' graphs for requests: a bounded number at once, in batches where that pays, each with its deadline.

Jobs that wait for the same points of the same bundle may be joined in a batch; for each point of a batch, its graph
runs once, on one of `concurrency` threads. All but the runs happens on the event loop, so nothing here is locked; a run
says when it began, so that this is known of jobs that expire during it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.job import Job
from service.logs import logger
from service.metrics import Metrics
from service.threads import Threads
from subspace_serve.bundle.selection import Member, label
from subspace_serve.bundle.session import Run


@dataclass(eq=False)
class Batch:
    """Jobs whose images run through the same points together."""

    jobs: list[Job]
    run: Run = field(default_factory=Run)
    unfinished: int = 0

    @property
    def wanted(self) -> bool:
        """Whether any job still waits for it."""
        return any(not job.done.done() for job in self.jobs)

    def begin(self, start: float) -> None:
        """Note when the jobs' first run began."""
        for job in self.jobs:
            if job.started is None:
                job.started = start

    def images(self) -> np.ndarray:
        """Return the images of all jobs, (N, ...)."""
        return self.jobs[0].images if len(self.jobs) == 1 else np.concatenate([job.images for job in self.jobs])


class Scheduler:
    """Takes jobs and settles them. At most `max_batch` images are joined (0: none), after at most `delay` seconds."""

    def __init__(self, metrics: Metrics, *, concurrency: int, max_batch: int = 0, delay: float = 0.0) -> None:
        self._metrics = metrics
        self._concurrency = concurrency
        self._max_batch = max_batch
        self._delay = delay if max_batch else 0.0
        # So many more runs are handed over than there are threads, so that none waits for the event loop between two
        # runs. Not with batches, which grow while they wait.
        self._ahead = 0 if max_batch else concurrency
        self._threads = Threads(concurrency)
        self._waiting: dict[Any, deque[Job]] = {}
        self._batches: set[Batch] = set()
        self._running = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def batches(self) -> int:
        """How many batches are running."""
        return len(self._batches)

    @property
    def abandoned(self) -> int:
        """How many batches are still running although no job waits for them."""
        return sum(not batch.wanted for batch in self._batches)

    async def run(self, job: Job) -> None:
        """Return once the job is settled: every member has answered or failed, or the deadline has passed.

        At least a quorum has answered then; otherwise raises `DeadlineError` or `QuorumError`, or what was set on
        `job.done` from outside. When the caller is cancelled, a waiting job leaves the queue, and a running one is
        stopped if no other job waits for its batch.
        """
        loop = asyncio.get_running_loop()
        job.done = loop.create_future()
        self._waiting.setdefault((id(job.points), job.members), deque()).append(job)
        timer = loop.call_at(job.deadline, job.expire)
        try:
            self._dispatch()
            await job.done
        finally:
            timer.cancel()
            self._leave(job)

    def close(self) -> None:
        """Let running graphs finish, and start no more."""
        self._threads.close()

    def _leave(self, job: Job) -> None:
        """Forget a job: take it off the queue, and stop runs that no other job waits for."""
        job.done.cancel()
        self._metrics.queue_seconds.observe((job.started or time.monotonic()) - job.queued)
        if job.waits:
            key = (id(job.points), job.members)
            self._waiting[key].remove(job)
            if not self._waiting[key]:
                del self._waiting[key]
        for batch in self._batches:
            if not batch.wanted:
                batch.run.end()

    def _dispatch(self) -> None:
        """Start batches while threads are free, the group with the oldest job first."""
        while self._running < self._concurrency + self._ahead and self._waiting:
            key = min(self._waiting, key=lambda key: self._waiting[key][0].queued)
            group = self._waiting[key]
            if self._should_fill(group):
                return
            batch = Batch(self._take(group))
            if not group:
                del self._waiting[key]
            for job in batch.jobs:
                job.waits = False
            images = batch.images()
            self._metrics.batch_images.observe(len(images))
            for member in batch.jobs[0].members:
                self._start(batch, member, images)

    def _should_fill(self, group: Sequence[Job]) -> bool:
        """Return whether a batch may still wait for more jobs; if so, dispatch again when its time is up."""
        remaining = group[0].queued + self._delay - time.monotonic()
        if remaining <= 0 or sum(len(job.images) for job in group) >= self._max_batch:
            return False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(remaining, self._dispatch)
        return True

    def _take(self, group: deque[Job]) -> list[Job]:
        jobs = [group.popleft()]
        images = len(jobs[0].images)
        while group and images + len(group[0].images) <= self._max_batch:
            jobs.append(group.popleft())
            images += len(jobs[-1].images)
        return jobs

    def _start(self, batch: Batch, member: Member, images: np.ndarray) -> None:
        loop = asyncio.get_running_loop()
        self._running += 1
        self._batches.add(batch)
        batch.unfinished += 1

        def work() -> None:
            logits: np.ndarray | None = None
            reason = ""
            seconds = None
            if batch.wanted:
                start = time.monotonic()
                batch.begin(start)
                try:
                    logits = batch.jobs[0].points.logits(member, images, batch.run)
                except Exception as error:  # whatever it is, the other members must still answer
                    reason = f"{type(error).__name__}: {error}"
                seconds = time.monotonic() - start
            # The loop is closed if the server stopped without waiting for this run.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._finish, batch, member, logits, reason, seconds)

        self._threads.run(work)

    def _finish(
        self, batch: Batch, member: Member, logits: np.ndarray | None, reason: str, seconds: float | None
    ) -> None:
        self._running -= 1
        batch.unfinished -= 1
        if not batch.unfinished:
            self._batches.discard(batch)
        if seconds is not None:
            self._metrics.inference_seconds(label(member)).observe(seconds)
        if logits is None and len(batch.jobs) > 1:
            # The images of one request may be what the graph failed on, so each job gets its own run.
            for job in batch.jobs:
                if not job.done.done():
                    self._start(Batch([job]), member, job.images)
        else:
            self._deliver(batch, member, logits, reason)
        self._dispatch()

    def _deliver(self, batch: Batch, member: Member, logits: np.ndarray | None, reason: str) -> None:
        if logits is None and batch.wanted:
            logger.warning("%s failed: %s", member, reason)
        start = 0
        for job in batch.jobs:
            end = start + len(job.images)
            if logits is None:
                job.fail(member, "failed")
            else:
                job.answer(member, logits[start:end])
            start = end
