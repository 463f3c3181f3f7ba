"""One request on its way through the scheduler: who must answer, by when, and who has."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from subspace_serve.bundle.selection import Member
from subspace_serve.bundle.session import Run


class DeadlineError(Exception):
    """The deadline passed before there was an answer."""


class QuorumError(Exception):
    """Fewer members than the quorum answered: the others failed, or missed the deadline."""


class Points(Protocol):
    """What runs graphs: a `Predictor`, or `service.places.Pinned`."""

    def logits(self, member: Member, images: np.ndarray, run: Run | None = None) -> np.ndarray:
        """Return one member's logits (N, classes)."""


@dataclass(eq=False)
class Job:
    """One request's images (N, ...) for some members of `points`; at least `quorum` of them must answer.

    `deadline` is on the event loop's clock, which is that of `time.monotonic`. Once `done` has a result, `answers`
    holds the logits of the members that answered, and `failures` why the others did not.
    """

    points: Points
    members: tuple[Member, ...]
    images: np.ndarray
    deadline: float
    quorum: int
    queued: float = field(default_factory=time.monotonic)
    answers: dict[Member, np.ndarray] = field(default_factory=dict)
    failures: dict[Member, str] = field(default_factory=dict)
    done: asyncio.Future[None] = field(init=False)
    waits: bool = True
    started: float | None = None

    def phases(self) -> dict[str, tuple[int, int]]:
        """Return when it waited and when its graphs ran, until now, on the clock of `time.time_ns`."""
        offset = time.time_ns() - int(time.monotonic() * 1e9)
        now = time.monotonic()
        started = self.started  # once, since a run sets it on its own thread
        spans = {"queue": (self.queued, started or now)} | ({"inference": (started, now)} if started else {})
        return {name: (int(begin * 1e9) + offset, int(end * 1e9) + offset) for name, (begin, end) in spans.items()}

    def answer(self, member: Member, logits: np.ndarray) -> None:
        """Record one member's logits; if they are not finite, the member has failed."""
        if self.done.done():
            return
        if not np.isfinite(logits).all():
            self.fail(member, "not finite")
            return
        self.answers[member] = logits
        self._settle()

    def fail(self, member: Member, reason: str) -> None:
        """Record that a member does not answer, and why."""
        if self.done.done():
            return
        self.failures[member] = reason
        self._settle()

    def expire(self) -> None:
        """Settle with the answers there are at the deadline, or with an error if they are fewer than the quorum."""
        if self.done.done():
            return
        late = [member for member in self.members if member not in self.answers and member not in self.failures]
        self.failures |= dict.fromkeys(late, "missed the deadline")
        if len(self.answers) >= self.quorum:
            self.done.set_result(None)
        elif self.quorum < len(self.members):
            self.done.set_exception(QuorumError())
        else:
            self.done.set_exception(DeadlineError())

    def _settle(self) -> None:
        if len(self.members) - len(self.failures) < self.quorum:
            self.done.set_exception(QuorumError())
        elif len(self.answers) + len(self.failures) == len(self.members):
            self.done.set_result(None)
