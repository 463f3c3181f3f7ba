"""Counts of this process that are handed to prometheus_client now and then.

prometheus_client writes each count of several processes to a file, which for the sixteen counts of one request takes
longer than reading its body.
"""

from __future__ import annotations

import threading
from bisect import bisect_left

from prometheus_client import Counter, Gauge, Histogram


class Count:
    """A counter, or a gauge that goes up and down."""

    def __init__(self, metric: Counter | Gauge) -> None:
        self._metric = metric
        self._lock = threading.Lock()
        self._amount = 0

    def inc(self, amount: int = 1) -> None:
        """Count so many more."""
        with self._lock:
            self._amount += amount

    def dec(self) -> None:
        """Count one less."""
        self.inc(-1)

    def publish(self) -> None:
        """Hand what was counted to prometheus_client."""
        with self._lock:
            amount, self._amount = self._amount, 0
        if amount:
            self._metric.inc(amount)


class ManyHistogram(Histogram):
    """A histogram that takes many observations at once."""

    @property
    def bounds(self) -> list[float]:
        """The buckets' upper bounds; the last is infinite."""
        return self._upper_bounds

    def add(self, counts: list[int], total: float) -> None:
        """Add so many observations to each bucket, whose sum is `total`."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class Distribution:
    """A histogram."""

    def __init__(self, metric: ManyHistogram) -> None:
        self._metric = metric
        self._bounds = metric.bounds
        self._lock = threading.Lock()
        self._clear()

    def observe(self, value: float) -> None:
        """Count one value."""
        with self._lock:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._total += value

    def publish(self) -> None:
        """Hand what was counted to prometheus_client."""
        with self._lock:
            counts, total = self._counts, self._total
            self._clear()
        if any(counts):
            self._metric.add(counts, total)

    def _clear(self) -> None:
        self._counts = [0] * len(self._bounds)
        self._total = 0.0
