"""Prometheus metrics with bounded labels: route templates and names from the bundle, never text from a client.

What happens is counted in this process first (`service.counting`) and published every `_PUBLISH_SECONDS`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service.counting import Count, Distribution, ManyHistogram

_MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_FILES = ("counter", "histogram", "gauge_livesum", "gauge_livemostrecent")
_FILE_BYTES = 512 * 1024  # some 5000 time series
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_MEMBERS = (1, 2, 3, 4, 5, 6, 8, 10, 16)
_UNIT = (0.001, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1)
_PUBLISH_SECONDS = 1.0

Kept = TypeVar("Kept", Count, Distribution)


class Metrics:
    """The service's metrics. With several workers, each one answers with the sum over all of them.

    Metrics with labels are functions of the labels' values, as in `metrics.images("midpoint").inc(3)`.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._unpublished: list[Count | Distribution] = []
        if folder := os.environ.get(_MULTIPROCESS_VARIABLE):
            _allocate(Path(folder))
            threading.Thread(target=self._publish_often, name="metrics", daemon=True).start()
        self.requests = self._counter("requests", "Requests answered.", "route", "method", "status")
        self.seconds = self._histogram(
            "request_seconds", "Time from a request's arrival to the end of its answer.", _SECONDS, "route"
        )
        self.decode_seconds = self._histogram(
            "decode_seconds", "Time to parse one request and decode its images.", _SECONDS
        )()
        self.queue_seconds = self._histogram("queue_seconds", "Time that one request waited for a thread.", _SECONDS)()
        self.inference_seconds = self._histogram(
            "inference_seconds", "Time of one point's graph on one batch.", _SECONDS, "point"
        )
        self.batch_images = self._histogram("batch_images", "Images in one batch.", _COUNTS)()
        self.members = self._histogram(
            "members", "Members that answered a request, by its model (`custom` where it named members).", _MEMBERS,
            "model",
        )  # fmt: skip
        self.disagreement = self._histogram(
            "disagreement", "Mean total-variation distance of an ensemble's members, of each image.", _UNIT, "model"
        )
        self.images = self._counter("images", "Images classified.", "model")
        self.rejections = self._counter("rejections", "Requests that were not answered, by reason.", "reason")
        self.member_failures = self._counter("member_failures", "Members that did not answer.", "point", "reason")
        self.reloads = self._counter("reloads", "Bundles that replaced another, or failed to.", "result")
        self.alpha_hits = self._counter("alpha_hits", "Networks between points that were there when asked for.")()
        self.alpha_evictions = self._counter("alpha_evictions", "Networks between points that made room for others.")()
        self.alpha_build_seconds = self._histogram(
            "alpha_build_seconds", "Time to build a network between points.", _SECONDS
        )()
        self.alpha_bytes = self._gauge(
            "alpha_bytes", "Memory, about, of the networks between points that are kept.", "livesum"
        )
        # All workers share an alarm, so that the last one to set it is right.
        self.drift_wealth = self._gauge(
            "drift_log10_wealth", "Evidence of drift; at log10 20 there is an alarm.", "livemostrecent", "model"
        ).labels
        self.drift_alarm = self._gauge(
            "drift_alarm", "1 since the drift alarm, 0 before.", "livemostrecent", "model"
        ).labels
        self.drift_images = self._gauge(
            "drift_images", "Images that the drift alarm has watched since it began.", "livemostrecent", "model"
        ).labels
        self.held = self._kept(
            Count(self._gauge("requests_held", "Requests that are worked on or wait for it.", "livesum"))
        )

    def publish(self) -> None:
        """Let scrapes see what this process has counted until now."""
        for unpublished in list(self._unpublished):
            unpublished.publish()

    def render(self) -> tuple[bytes, str]:
        """Return the text for a scrape and its content type; what other processes counted may be a second old."""
        self.publish()
        registry = self._registry
        if os.environ.get(_MULTIPROCESS_VARIABLE):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def forget(self, process: int) -> None:
        """Remove a process that is ending, or has died, from the sums of gauges; its other counts stay."""
        self.publish()
        if os.environ.get(_MULTIPROCESS_VARIABLE):
            mark_process_dead(process)

    def _counter(self, name: str, text: str, *labels: str) -> Callable[..., Count]:
        metric = Counter(f"subspace_serve_{name}", text, labels, registry=self._registry)
        return self._by_labels(metric, Count)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Callable[..., Distribution]:
        metric = ManyHistogram(f"subspace_serve_{name}", text, labels, registry=self._registry, buckets=buckets)
        return self._by_labels(metric, Distribution)

    def _gauge(self, name: str, text: str, mode: Literal["livesum", "livemostrecent"], *labels: str) -> Gauge:
        return Gauge(f"subspace_serve_{name}", text, labels, multiprocess_mode=mode, registry=self._registry)

    def _by_labels(self, metric: Any, kind: Callable[[Any], Kept]) -> Callable[..., Kept]:
        """Return a cached function from label values to what counts there; looking it up each time would cost more."""

        @cache
        def labelled(*values: Any) -> Kept:
            return self._kept(kind(metric.labels(*values) if values else metric))

        return labelled

    def _kept(self, unpublished: Kept) -> Kept:
        self._unpublished.append(unpublished)
        return unpublished

    def _publish_often(self) -> None:
        while True:
            time.sleep(_PUBLISH_SECONDS)
            self.publish()


def _allocate(folder: Path) -> None:
    """Write this process's files at full size before they are mapped.

    Otherwise prometheus_client maps sparse files, and a process that counts something for the first time while the disk
    is full is killed (SIGBUS). Raises `OSError` when the disk is full already.
    """
    for kind in _FILES:
        file = folder / f"{kind}_{os.getpid()}.db"
        if not file.exists():
            file.write_bytes(bytes(_FILE_BYTES))
