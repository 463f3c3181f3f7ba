"""The scheduler: batches, bounds, deadlines and quorums, with points that do as they are told."""

from __future__ import annotations

import asyncio
import re
import threading
import time

import numpy as np
import pytest

from service.job import DeadlineError, Job, QuorumError
from service.metrics import Metrics
from service.scheduler import Scheduler


class Points:
    """Each point adds its own number to the images' first column; some wait for `go_on`, some fail."""

    def __init__(self, *, held: tuple[str, ...] = (), failing: tuple[str, ...] = (), refused: int = -1) -> None:
        self.held, self.failing, self.refused = held, failing, refused
        self.go_on, self.begun = threading.Event(), threading.Event()
        self.calls: list[tuple[str, list[int]]] = []
        self.runs = []

    def logits(self, name: str, images: np.ndarray, run=None) -> np.ndarray:
        self.calls.append((name, images[:, 0].tolist()))
        self.runs.append(run)
        if name in self.held:
            self.begun.set()
            deadline = time.monotonic() + 20
            while not self.go_on.wait(0.005):
                assert time.monotonic() < deadline
                if run.options.terminate:
                    raise RuntimeError("terminated")
        if name in self.failing or self.refused in images[:, 0]:
            raise RuntimeError("failed")
        return images.astype(float) + float(name)


def scheduler(**options) -> Scheduler:
    return Scheduler(Metrics(), **{"concurrency": 1, **options})


def job(points: Points, *values: int, members: str = "0", quorum: int | None = None, seconds: float = 10) -> Job:
    names = tuple(members.split(","))
    images = np.array([[value] for value in values])
    return Job(points, names, images, time.monotonic() + seconds, quorum or len(names))


async def settled(scheduler: Scheduler, *jobs: Job) -> list[Exception | None]:
    return await asyncio.gather(*(scheduler.run(job) for job in jobs), return_exceptions=True)


async def behind(scheduler: Scheduler, points: Points, *jobs: Job) -> list[Exception | None]:
    """Let jobs gather behind one that is held, and settle all; return what came of them."""
    first = asyncio.ensure_future(scheduler.run(job(points, 99, members="7")))
    await asyncio.to_thread(points.begun.wait, 10)
    others = asyncio.ensure_future(settled(scheduler, *jobs))
    await asyncio.sleep(0)
    points.go_on.set()
    await first
    return await others


def test_waiting_jobs_are_joined_and_each_gets_its_own():
    points = Points(held=("7",))
    jobs = [job(points, 1, 2), job(points, 3), job(points, 4, members="0,1"), job(points, 5)]
    assert asyncio.run(behind(scheduler(max_batch=8), points, *jobs)) == [None] * 4
    assert sorted(points.calls[1:]) == [("0", [1, 2, 3, 5]), ("0", [4]), ("1", [4])]
    assert [job.answers["0"].ravel().tolist() for job in jobs] == [[1, 2], [3], [4], [5]]
    assert jobs[2].answers["1"].ravel().tolist() == [5]


def test_batches_are_bounded_and_without_batching_nothing_is_joined():
    for limit, calls in ((2, [[1, 2], [3], [4, 5, 6]]), (0, [[1, 2], [3], [4, 5, 6]]), (3, [[1, 2, 3], [4, 5, 6]])):
        points = Points(held=("7",))
        jobs = [job(points, 1, 2), job(points, 3), job(points, 4, 5, 6)]
        asyncio.run(behind(scheduler(max_batch=limit), points, *jobs))
        assert [values for _, values in points.calls[1:]] == calls


def test_bundles_are_not_mixed():
    points, other = Points(held=("7",)), Points()
    asyncio.run(behind(scheduler(max_batch=8), points, job(points, 1), job(other, 2), job(points, 3)))
    assert points.calls[1:] == [("0", [1, 3])]
    assert other.calls == [("0", [2])]


def test_a_batch_may_wait_to_fill():
    async def both() -> None:
        waiting = scheduler(max_batch=2, delay=30)
        first = asyncio.ensure_future(waiting.run(job(points, 1)))
        await asyncio.sleep(0.01)
        assert points.calls == []
        await waiting.run(job(points, 2))
        await first

    points = Points()
    asyncio.run(both())
    assert points.calls == [("0", [1, 2])]
    asyncio.run(settled(scheduler(max_batch=2, delay=0.01), job(points, 3)))
    assert points.calls[1:] == [("0", [3])]


def test_a_request_that_a_graph_cannot_take_spoils_no_other():
    points = Points(held=("7",), refused=2)
    jobs = [job(points, 1), job(points, 2), job(points, 3)]
    results = asyncio.run(behind(scheduler(max_batch=8), points, *jobs))
    assert [type(result) for result in results] == [type(None), QuorumError, type(None)]
    assert [job.answers.get("0", np.array([])).ravel().tolist() for job in jobs] == [[1], [], [3]]


def test_numbers_that_are_not_finite_fail_the_request_that_they_are_of():
    class NotFinite(Points):
        def logits(self, name, images, run=None):
            super().logits(name, images, run)
            return np.where(images == 2, np.nan, images)

    points = NotFinite(held=("7",))
    jobs = [job(points, 1), job(points, 2)]
    results = asyncio.run(behind(scheduler(max_batch=8), points, *jobs))
    assert results[0] is None
    assert isinstance(results[1], QuorumError)
    assert jobs[1].failures == {"0": "not finite"}


def test_a_quorum_answers_without_those_that_fail():
    points = Points(failing=("1",))
    enough, too_few = job(points, 5, members="0,1,2", quorum=2), job(points, 5, members="0,1,2")
    results = asyncio.run(settled(scheduler(concurrency=3), enough, too_few))
    assert results[0] is None
    assert isinstance(results[1], QuorumError)
    assert {name: value.tolist() for name, value in enough.answers.items()} == {"0": [[5.0]], "2": [[7.0]]}
    assert enough.failures == {"1": "failed"}


def test_at_the_deadline_a_quorum_answers_and_what_is_late_is_ended():
    async def ask(quorum: int) -> Job:
        late = job(points, 5, members="0,1", quorum=quorum, seconds=0.2)
        try:
            await tested.run(late)
        finally:
            while tested.abandoned:
                await asyncio.sleep(0.01)
        return late

    points = Points(held=("1",))
    tested = scheduler(concurrency=2)
    answered = asyncio.run(ask(1))
    assert list(answered.answers) == ["0"]
    assert answered.failures == {"1": "missed the deadline"}
    assert points.runs[-1].options.terminate
    tested = scheduler(concurrency=2)
    with pytest.raises(DeadlineError):
        asyncio.run(ask(2))


def test_what_waits_past_its_deadline_never_runs():
    points = Points(held=("7",))
    late = job(points, 1, seconds=0.05)

    async def ask() -> None:
        tested = scheduler(max_batch=1)
        first = asyncio.ensure_future(tested.run(job(points, 99, members="7")))
        await asyncio.to_thread(points.begun.wait, 10)
        with pytest.raises(DeadlineError):
            await tested.run(late)
        assert tested.abandoned == 0
        points.go_on.set()
        await first

    asyncio.run(ask())
    assert points.calls == [("7", [99])]


def observed(metrics: Metrics, name: str) -> list[tuple[float, float]]:
    """Return the number and the sum of a histogram's observations, for each of its labels."""
    page = metrics.render()[0].decode()
    counts, sums = ([float(n) for n in re.findall(f"{name}_{end}.* (.*)", page)] for end in ("count", "sum"))
    return list(zip(counts, sums, strict=True))


@pytest.mark.parametrize("max_batch", [0, 1])
def test_each_job_is_observed_once_and_only_runs_that_were_made(max_batch):
    points, metrics = Points(held=("7",)), Metrics()

    async def ask() -> None:
        tested = Scheduler(metrics, concurrency=1, max_batch=max_batch)
        first = asyncio.ensure_future(tested.run(job(points, 99, members="7")))
        await asyncio.to_thread(points.begun.wait, 10)
        assert all(await settled(tested, *[job(points, 1, seconds=0.2) for _ in range(3)]))
        points.go_on.set()
        await first
        while tested.batches:
            await asyncio.sleep(0.01)

    asyncio.run(ask())
    ((queued, waited),) = observed(metrics, "queue_seconds")
    assert queued == 4
    assert 0.6 <= waited < 5
    ((runs, ran),) = observed(metrics, "inference_seconds")
    assert runs == 1
    assert ran >= 0.2


def test_a_job_that_expires_while_it_runs_has_not_waited_so_long():
    points, metrics = Points(held=("7",)), Metrics()
    late = job(points, 99, members="7", seconds=0.5)

    async def ask() -> None:
        tested = Scheduler(metrics, concurrency=1)
        with pytest.raises(DeadlineError):
            await tested.run(late)
        while tested.batches:
            await asyncio.sleep(0.01)

    asyncio.run(ask())
    ((queued, waited),) = observed(metrics, "queue_seconds")
    assert queued == 1
    assert waited < 0.4
    assert late.phases().keys() == {"queue", "inference"}


def test_a_caller_that_goes_away_leaves_the_queue_and_ends_its_run():
    points = Points(held=("7",))

    async def ask() -> None:
        tested = scheduler(max_batch=1)
        running = asyncio.ensure_future(tested.run(job(points, 99, members="7")))
        await asyncio.to_thread(points.begun.wait, 10)
        waiting = asyncio.ensure_future(tested.run(job(points, 1)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        assert tested.abandoned == 0
        running.cancel()
        await asyncio.sleep(0)
        assert tested.abandoned == 1
        while tested.abandoned:
            await asyncio.sleep(0.01)

    asyncio.run(ask())
    assert points.calls == [("7", [99])]


def test_what_others_still_wait_for_goes_on():
    points = Points(held=("0",))

    async def ask() -> Job:
        tested = scheduler(max_batch=8, delay=0.02)
        going, staying = job(points, 1), job(points, 2)
        first = asyncio.ensure_future(tested.run(going))
        second = asyncio.ensure_future(tested.run(staying))
        await asyncio.to_thread(points.begun.wait, 10)
        first.cancel()
        await asyncio.sleep(0.01)
        assert not points.runs[0].options.terminate
        points.go_on.set()
        await second
        return staying

    assert asyncio.run(ask()).answers["0"].tolist() == [[2.0]]
    assert points.calls == [("0", [1, 2])]


def test_without_batching_what_comes_next_is_handed_over_early_and_still_never_runs():
    points = Points(held=("7",))

    async def ask() -> None:
        tested = scheduler()
        running = asyncio.ensure_future(tested.run(job(points, 99, members="7")))
        await asyncio.to_thread(points.begun.wait, 10)
        waiting = asyncio.ensure_future(tested.run(job(points, 1)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        assert tested.abandoned == 1  # until a thread comes to it
        points.go_on.set()
        await running
        while tested.abandoned:
            await asyncio.sleep(0.01)

    asyncio.run(ask())
    assert points.calls == [("7", [99])]
