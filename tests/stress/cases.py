"""What is asked, and what must come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from stress.wire import Reply

CLOSED = 0
"""Stands among the statuses for a connection that is closed without an answer."""

Delivery = Literal["kept", "alone", "abandoned", "trickled"]


@dataclass(frozen=True)
class Case:
    """One request as bytes, and the statuses that may answer it.

    `check` says what is wrong with an answer of one of these statuses, None where nothing is. `delivery` is on a
    connection that is used again, on one of its own, on one that the client closes without waiting, or piece by piece.
    """

    name: str
    request: bytes
    statuses: frozenset[int] = frozenset({200})
    check: Callable[[Reply], str | None] = lambda reply: None
    delivery: Delivery = "kept"


def refused(name: str, request: bytes, statuses: int | Iterable[int] = 400, *, delivery: Delivery = "kept") -> Case:
    """Return a case that must be refused with one of some statuses."""
    allowed = frozenset([statuses] if isinstance(statuses, int) else statuses)
    return Case(name, request, allowed, _says_why, delivery)


def _says_why(reply: Reply) -> str | None:
    """Every refusal of a request that is HTTP is a short sentence in JSON."""
    if reply.status == 200:  # where that is allowed, too
        return None
    if reply.headers.get("content-type") != "application/json":
        return None if reply.body == b"Invalid HTTP request received." else f"no JSON: {reply.body[:200]!r}"
    document = reply.json()
    if list(document) != ["error"] or not isinstance(document["error"], str) or not document["error"]:
        return f"no message: {document}"
    return None if len(document["error"]) < 2000 else f"a message of {len(document['error'])} characters"
