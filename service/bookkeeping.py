"""What is written down of a request that has ended, whatever its transport: metrics, the access log and its trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from service.logs import log_access
from service.metrics import Metrics
from service.record import Record
from service.refusals import REFUSALS
from service.tracing import Headers, Tracing


class Ended(NamedTuple):
    """How a request ended. `status` is HTTP's, or that of the same answer over HTTP, and `size` the answer's bytes.

    `route` and `method` are labels of metrics, so never a client's own words; `own_method` and `path` are the client's.
    Probes are counted, and neither logged nor traced. `attributes` and `headers` are for the trace.
    """

    route: str
    method: str
    own_method: str
    path: str
    status: int
    size: int
    client: str | None
    is_probe: bool
    attributes: Callable[[], Mapping[str, str | int]]
    headers: Callable[[], Headers]


class Bookkeeping:
    """Writes down what is known of each request at its end."""

    def __init__(self, metrics: Metrics, tracing: Tracing | None, *, log: bool) -> None:
        self._metrics = metrics
        self._tracing = tracing
        self._log = log

    def note(self, record: Record, ended: Ended) -> None:
        """Count, log and trace one request."""
        status, seconds = ended.status, time.monotonic() - record.arrival
        self._metrics.requests(ended.route, ended.method, str(status)).inc()
        self._metrics.seconds(ended.route).observe(seconds)
        if status >= 400:
            self._metrics.rejections(REFUSALS[status].reason if status in REFUSALS else "other").inc()
        if ended.is_probe:
            return
        if self._log:
            log_access(
                request_id=record.request_id,
                client=ended.client,
                method=ended.own_method[:20],
                path=ended.path[:200],
                status=status,
                bytes=ended.size,
                ms=round(seconds * 1e3, 3),
                model=record.model,
                images=record.images,
                members=record.members,
                decode_ms=record.milliseconds("decode"),
                queue_ms=record.milliseconds("queue"),
                inference_ms=record.milliseconds("inference"),
            )
        if self._tracing is not None:
            name = f"{ended.own_method[:20]} {ended.route}"
            self._tracing.record(name, ended.attributes(), ended.headers(), record, failed=status >= 500)
