"""Open-loop load on a service: requests come at their own rate, as those of users do, however slow the answers are.

A client that waits for an answer before it asks again goes easy on a slow server, and its figures omit everyone who
would have waited meanwhile (coordinated omission). Here every latency counts from when the request was due.
"""

from __future__ import annotations

import itertools
import math
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import numpy as np

from subspace_serve.bench.sending import ERROR, Log, send_all
from subspace_serve.client.conversation import checked_url
from subspace_serve.client.errors import ClientError, ConnectionFailed
from subspace_serve.client.transport import standing_headers
from subspace_serve.client.wire import HttpRequest

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
MAX_REQUESTS = 5_000_000

_CONNECT_SECONDS = 5.0
_LATE_SECONDS = 0.002
_LATE_SHARE = 0.1
_BUSY_SHARE = 0.9


@dataclass(frozen=True)
class LoadReport:
    """What a server did at one rate of requests. Times are in seconds, rates per second.

    `rate` was asked for; `requests` were due within `duration`, at the rate `offered` (a Poisson process has a few more
    or fewer). `latency` has percentiles of the time from when one of these was due to its answer 200, and `late` of how
    late the generator itself sent them; `statuses` counts their answers by status, and `errors` those without an
    answer. `throughput` is the rate of the answers 200 that were complete within `duration`, whenever their requests
    were due. `processor` is the share of a core that the generator used, and `waited` counts requests for which no
    connection was free; both cover the warm-up too.
    """

    rate: float
    duration: float
    requests: int
    offered: float
    throughput: float
    latency: Mapping[str, float]
    statuses: Mapping[int, int]
    errors: Mapping[str, int]
    late: Mapping[str, float]
    processor: float
    waited: int

    @property
    def fell_behind(self) -> bool:
        """Whether the generator was too slow, so that the figures are its own rather than the server's."""
        if not self.requests:
            return False
        slack = max(_LATE_SECONDS, _LATE_SHARE * self.latency.get("p99", 0.0))
        return self.late["p99"] > slack or self.processor > _BUSY_SHARE

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document; keys that end in `_ms` hold milliseconds."""
        document = asdict(self)
        document["statuses"] = {str(status): count for status, count in self.statuses.items()}
        for name in ("latency", "late"):
            percentiles = document.pop(name)
            document[f"{name}_ms"] = {key: round(1e3 * value, 3) for key, value in percentiles.items()}
        return document | {"fell_behind": self.fell_behind}


def arrivals(rate: float, seconds: float, *, uniform: bool = False, seed: int = 0) -> np.ndarray:
    """Return the ascending times in [0, seconds) at which requests are due: a Poisson process, or evenly spaced."""
    if uniform:
        return np.arange(math.ceil(rate * seconds - 1e-9)) / rate
    generator = np.random.default_rng(seed)
    # Given how many there are, the times of a Poisson process are uniform and independent.
    return np.sort(generator.uniform(0, seconds, generator.poisson(rate * seconds)))


def percentiles(values: np.ndarray) -> dict[str, float]:
    """Return the `PERCENTILES` (each a value that occurred) by name; an empty dictionary for no values."""
    if not len(values):
        return {}
    ordered = np.sort(values)
    # The nearest rank; rounded, since 99.9 % of 1000 is 999 and not a little more.
    ranks = {name: math.ceil(round(percent * len(ordered) / 100, 6)) for name, percent in PERCENTILES.items()}
    return {name: float(ordered[max(rank, 1) - 1]) for name, rank in ranks.items()}


def run_load(
    url: str,
    requests: Iterable[HttpRequest],
    *,
    rate: float,
    duration: float,
    warm_up: float = 1.0,
    uniform: bool = False,
    seed: int = 0,
    connections: int = 256,
    timeout: float = 10.0,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> LoadReport:
    """Send requests to a server at `rate` per second, and return what it did.

    A sequence of requests is cycled through. An iterator must be endless; each of its requests is made when it is due,
    and the time that this takes is the load generator's own.

    It runs for `warm_up + duration` seconds, of which the warm-up is not reported, and then at most `timeout` for the
    last answers. At most `connections` are open at once. Do not call it from a running event loop.

    Raises `ClientError` for arguments out of range, no requests or a malformed URL, `ConnectionFailed` when nobody
    listens.
    """
    for name, value in {"rate": rate, "duration": duration, "timeout": timeout}.items():
        if not (math.isfinite(value) and value > 0):
            raise ClientError(f"the {name} is {value!r}; give a positive number")
    if rate * (warm_up + duration) > MAX_REQUESTS:
        raise ClientError(
            f"{rate:g} requests a second for {warm_up + duration:g} s are over {MAX_REQUESTS}; give a shorter duration"
        )
    if not requests or connections < 1 or not warm_up >= 0:
        raise ClientError("a load needs requests, one connection or more, and a warm-up of 0 s or more")
    prefix = checked_url(url)
    headers = standing_headers(token)
    wires: Iterator[bytes] = (encoded(request, prefix, headers) for request in requests)
    if isinstance(requests, Sequence):
        wires = itertools.cycle([*wires])
    address = _reached(prefix, tls)
    due = arrivals(rate, warm_up + duration, uniform=uniform, seed=seed)
    processor, clock = time.process_time(), time.perf_counter()
    log = send_all(address, wires, due, connections=connections, timeout=timeout)
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    return _report(log, rate, warm_up, duration, processor / clock)


def _report(log: Log, rate: float, warm_up: float, duration: float, processor: float) -> LoadReport:
    measured = log.due >= warm_up
    fine = log.statuses == 200
    count = int(measured.sum())
    # Includes requests that were due in the warm-up, not those answered after the end: what the server did meanwhile.
    complete = fine & (log.done >= warm_up) & (log.done < warm_up + duration)
    statuses = Counter(log.statuses[measured & (log.statuses != ERROR)].tolist())
    errors = Counter(error for number, error in log.errors.items() if measured[number])
    return LoadReport(
        rate=rate,
        duration=duration,
        requests=count,
        offered=count / duration,
        throughput=int(complete.sum()) / duration,
        latency=percentiles((log.done - log.due)[measured & fine]),
        statuses=dict(sorted(statuses.items())),
        errors=dict(errors.most_common()),
        late=percentiles(log.late[measured]),
        processor=processor,
        waited=log.waited,
    )


def encoded(request: HttpRequest, url: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a request's bytes for the server at `url`, with additional headers."""
    address = httpx.URL(url)
    host, prefix = address.netloc.decode("ascii"), address.raw_path.decode("ascii").rstrip("/")
    fields = {"Host": host, "Content-Length": str(len(request.body)), **(headers or {}), **request.headers}
    lines = [f"{request.method} {prefix}{request.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + request.body


def _reached(url: str, tls: ssl.SSLContext | None) -> dict[str, Any]:
    """Connect once, and return how to connect again: to the address that answered, since a name may have several."""
    parsed = httpx.URL(url)
    secure = parsed.scheme == "https"
    host, port = parsed.raw_host.decode("ascii"), parsed.port or (443 if secure else 80)
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_SECONDS) as probe:
            address = {"host": probe.getpeername()[0], "port": port}
    except OSError as error:
        raise ConnectionFailed(f"nobody listens at {url} ({error.strerror or error}); start the server first") from None
    return address | ({"ssl": tls or ssl.create_default_context(), "server_hostname": host} if secure else {})
