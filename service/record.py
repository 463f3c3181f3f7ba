"""What is known of one request, for its log line, its metrics and its trace."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass
class Record:
    """One request. `phases` holds, by name, when each part of the work began and ended (`time.time_ns`)."""

    request_id: str
    arrival: float = field(default_factory=time.monotonic)
    arrival_ns: int = field(default_factory=time.time_ns)
    model: str | None = None
    images: int | None = None
    members: int | None = None
    phases: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: MutableMapping[str, Any]) -> Record:
        """Return the record that was attached to the request of an ASGI scope."""
        record: Record = scope["subspace_serve.record"]
        return record

    @classmethod
    def new(cls, own: str | bytes) -> Record:
        """Make a request's record; its id is the client's own X-Request-ID if that is well-formed, else random."""
        own = own if isinstance(own, str) else own.decode("latin-1")
        return cls(own if _REQUEST_ID.fullmatch(own) else secrets.token_hex(8))

    @classmethod
    def attach(cls, scope: MutableMapping[str, Any]) -> Record:
        """Make the record of an ASGI scope's request."""
        record = cls.new(next((value for name, value in scope["headers"] if name == b"x-request-id"), b""))
        scope["subspace_serve.record"] = record
        return record

    def milliseconds(self, phase: str) -> float | None:
        """Return how long a part of the work took, or None if the request did not get to it."""
        if phase not in self.phases:
            return None
        begin, end = self.phases[phase]
        return round((end - begin) / 1e6, 3)
