"""Prometheus metrics whose labels are bounded: route templates and names from the bundle, never a client's text."""

from __future__ import annotations

import os
import time

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The service's metrics. Under several workers every worker answers with the sum over all of them."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "subspace_serve_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "subspace_serve_request_seconds",
            "Time from a request's arrival to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.images = Counter(
            "subspace_serve_images",
            "Images classified, by the model that answered (`custom` for members chosen by a request).",
            ["model"],
            registry=registry,
        )
        self.inference_seconds = Histogram(
            "subspace_serve_inference_seconds",
            "Time in ONNX Runtime and aggregation for one request.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.held = Gauge(
            "subspace_serve_requests_held",
            "Requests that are worked on or wait for it.",
            multiprocess_mode="livesum",
            registry=registry,
        )

    def render(self) -> tuple[bytes, str]:
        """Return the text for a scrape and its content type."""
        registry = self._registry
        if os.environ.get(_MULTIPROCESS_VARIABLE):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def close(self) -> None:
        """Take this process out of the sums of what is going on now."""
        if os.environ.get(_MULTIPROCESS_VARIABLE):
            mark_process_dead(os.getpid())


class MetricsMiddleware:
    """Counts and times every request under its route's template; all unknown paths share one."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self.app = app
        self.metrics = metrics
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and watch the answer's status."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in self.routes else "unknown"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        start = time.monotonic()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            self.metrics.requests.labels(route, method, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - start)
