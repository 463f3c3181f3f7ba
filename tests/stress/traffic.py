"""Sends cases over many connections at once, and keeps account of what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from stress.cases import CLOSED, Case
from stress.wire import BrokenError, Connection, Reply

_TRICKLE_BYTES = 8
_TRICKLE_SECONDS = 0.02
_RETRY_SECONDS = 0.02
_GIVEN_UP_SECONDS = 60


@dataclass
class Tally:
    """What came back: statuses (`CLOSED` for connections that broke), seconds to good answers, what is wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def enter(self, case: Case, reply: Reply | None, seconds: float = 0.0) -> None:
        """Take one answer, or None for a connection that was closed."""
        status = reply.status if reply is not None else CLOSED
        self.statuses[status] += 1
        self.kinds[case.name] += 1
        if status == 200:
            self.seconds.append(seconds)
        if status not in case.statuses:
            self.wrong.append(f"{case.name}: {status} {reply.body[:300] if reply else b''!r}")
        elif reply is not None and (complaint := case.check(reply)):
            self.wrong.append(f"{case.name}: {complaint}")

    def percentile(self, share: float) -> float:
        """Return the seconds within which a share of the good answers came."""
        ordered = sorted(self.seconds) or [float("nan")]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def __str__(self) -> str:
        """Return the figures."""
        shown = ", ".join(f"{count} x {status or 'closed'}" for status, count in sorted(self.statuses.items()))
        return f"{shown}; p50 {self.percentile(0.5) * 1e3:.1f} ms, p99 {self.percentile(0.99) * 1e3:.1f} ms"


async def send(case: Case, connection: Connection, tally: Tally) -> None:
    """Send one case as it is to be delivered, and take its answer."""
    if case.delivery == "kept":
        await _ask(case, connection, tally)
        return
    own = Connection(connection.port)
    try:
        if case.delivery == "abandoned":
            with contextlib.suppress(ConnectionError):
                await own.send(case.request)
            tally.kinds[case.name] += 1
        elif case.delivery == "trickled":
            for start in range(0, len(case.request) - 1, _TRICKLE_BYTES):
                await own.send(case.request[start : min(start + _TRICKLE_BYTES, len(case.request) - 1)])
                await asyncio.sleep(_TRICKLE_SECONDS)
            await _ask(case, own, tally, case.request[-1:])
        else:
            await _ask(case, own, tally)
    finally:
        own.close()


async def drive(port: int, cases: Iterable[Case], connections: int) -> Tally:
    """Send all cases, each connection the next one when it has its answer."""
    tally, remaining = Tally(), iter(cases)

    async def work() -> None:
        connection = Connection(port)
        for case in remaining:
            await send(case, connection, tally)
        connection.close()

    await asyncio.gather(*[work() for _ in range(connections)])
    return tally


async def drive_openly(port: int, cases: Sequence[Case], rate: float, seconds: float) -> Tally:
    """Send cases at a rate whatever comes back, on connections of their own where none is free."""
    tally, free, tasks = Tally(), [], set()
    loop = asyncio.get_running_loop()
    start, sent = loop.time(), 0

    async def one(case: Case) -> None:
        connection = free.pop() if free else Connection(port)
        await _ask(case, connection, tally)
        free.append(connection)

    while (elapsed := loop.time() - start) < seconds:
        while sent < elapsed * rate:
            task = asyncio.ensure_future(one(cases[sent % len(cases)]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    return tally


async def _ask(case: Case, connection: Connection, tally: Tally, data: bytes | None = None) -> None:
    start = time.perf_counter()
    reply = await _reply(connection, case.request if data is None else data)
    tally.enter(case, reply, time.perf_counter() - start)


async def _reply(connection: Connection, data: bytes) -> Reply | None:
    """Return the answer, None where the connection broke or could not be made."""
    try:
        return await connection.ask(data)
    except (BrokenError, ConnectionError):
        return None


@contextlib.contextmanager
def under_load(
    port: int,
    cases: Sequence[Case],
    clients: int = 4,
    *,
    retried: Callable[[Reply | None], bool] = lambda reply: False,
    last: Callable[[Reply | None], bool] = lambda reply: False,
) -> Iterator[Tally]:
    """Ask cases in the background while the block runs, and until every client has had an answer after it.

    An answer (None for a connection that broke) that is to be `retried` is counted as such, and the same case is sent
    again until there is another answer. After its `last` answer a client asks no more.
    """
    tally, stop = Tally(), threading.Event()

    async def client(seed: int) -> None:
        choice, connection = random.Random(seed), Connection(port)
        while not stop.is_set():
            case, start = choice.choice(cases), time.perf_counter()
            while retried(reply := await _reply(connection, case.request)):
                tally.kinds["retried"] += 1
                if time.perf_counter() - start > _GIVEN_UP_SECONDS:
                    break
                await asyncio.sleep(_RETRY_SECONDS)
            tally.enter(case, reply, time.perf_counter() - start)
            if last(reply):
                break
        connection.close()

    async def all_clients() -> None:
        await asyncio.gather(*map(client, range(clients)))

    thread = threading.Thread(target=asyncio.run, args=[all_clients()])
    thread.start()
    try:
        yield tally
    finally:
        stop.set()
        thread.join()
