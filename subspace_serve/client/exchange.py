"""One request until it is answered: when to retry, and what to raise in the end. Does no I/O.

A conversation with the server is a generator of steps. Whoever has the connection carries each step out and sends the
outcome back: for `Send` a `Reply` or a `Lost`, for `Work` what its function returns; for `Pause` it is ignored.
"""

from __future__ import annotations

import email.utils
import json
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from subspace_serve.client.errors import ClientError, ConnectionFailed, RequestRefused, ServerBusy, Timeout
from subspace_serve.client.wire import HttpRequest

BUSY = (429, 503)
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds: upper bounds of the first random pause, and of any; the bound doubles from one to the next."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Send:
    """Send a request and wait for its answer, for `timeout` seconds altogether."""

    request: HttpRequest
    timeout: float


@dataclass(frozen=True)
class Pause:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Call a function that takes a while, such as one that reads files."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Reply:
    """An answer; the headers' names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str | None:
        """How the server's log names the request."""
        return self.headers.get("x-request-id")


@dataclass(frozen=True)
class Lost:
    """No answer. `unsent`: nobody was reached, so the server has not seen the request.

    `broken`: the connection broke; `late`: no answer in time; `final`: a retry would not help.
    """

    reason: str
    how: Literal["unsent", "broken", "late", "final"]


Steps = Generator[Send | Pause | Work, Any, Result]


@dataclass(frozen=True)
class Exchange:
    """How requests to `url` are retried: `retries` times at most, with `random` (in [0, 1)) and `clock` (seconds)."""

    url: str
    retries: int
    random: Callable[[], float]
    clock: Callable[[], float]

    def ask(self, request: HttpRequest, seconds: float, *, retries: int | None = None) -> Steps[Reply]:
        """Return the answer with status 200.

        The request is sent again when the server is busy (429, 503) or was not reached and, if it is repeatable, when
        the connection broke. Raises `ClientError` as `subspace_serve.client.errors` says; also as soon as the next
        pause would end after `seconds`.
        """
        end = self.clock() + seconds
        # The same for all attempts, so that the server's log shows them as one.
        request = replace(request, headers={**request.headers, "X-Request-ID": secrets.token_hex(8)})
        retries = self.retries if retries is None else retries
        attempts = 0
        while True:
            outcome = yield Send(request, max(end - self.clock(), 1e-3))
            attempts += 1
            if isinstance(outcome, Reply) and outcome.status == 200:
                return outcome
            error = self._error(request, outcome, seconds, attempts)
            if attempts > retries or not _mendable(request, outcome):
                raise error
            pause = self._pause(attempts, outcome)
            if self.clock() + pause >= end:
                raise error
            yield Pause(pause)

    def _pause(self, attempts: int, outcome: Reply | Lost) -> float:
        """Return what the server asks for and a random time more, so that clients do not all come back at once."""
        bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempts - 1))
        return retry_after(outcome) + bound * self.random()

    def _error(self, request: HttpRequest, outcome: Reply | Lost, seconds: float, attempts: int) -> ClientError:
        target = f"{request.method} {self.url}{request.path} (request {request.headers['X-Request-ID']})"
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        if isinstance(outcome, Reply):
            reason = _reason(outcome)
            message = f"{target} is answered {outcome.status}{tried}: {reason}"
            kind: type[RequestRefused] | type[ServerBusy] = RequestRefused
            if outcome.status in BUSY:
                kind = ServerBusy
                message += "; ask less often, or for longer (timeout, retries)"
            return kind(message, status=outcome.status, reason=reason, request_id=outcome.request_id)
        if outcome.how == "late":
            return Timeout(f"{target} was not answered within {seconds:.3g} s{tried}; is the server overloaded?")
        return ConnectionFailed(f"{target} cannot be asked{tried} ({outcome.reason}); check the address and the server")


def retry_after(outcome: Reply | Lost) -> float:
    """Return how many seconds an answer asks to wait in its header Retry-After, which is a number or a date."""
    text = outcome.headers.get("retry-after", "").strip() if isinstance(outcome, Reply) else ""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _mendable(request: HttpRequest, outcome: Reply | Lost) -> bool:
    if isinstance(outcome, Reply):
        return outcome.status in BUSY
    return outcome.how == "unsent" or (outcome.how == "broken" and request.repeatable)


def _reason(reply: Reply) -> str:
    """Return what the server says is wrong, or the beginning of whatever it sent."""
    try:
        return str(json.loads(reply.body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return " ".join(reply.body[:200].decode(errors="replace").split()) or "without a reason"
