"""The highest rate that a server keeps up with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from subspace_serve.bench.load import LoadReport

KEPT_UP = 0.98
PRECISION = 0.05


@dataclass(frozen=True)
class Saturation:
    """The highest rate that held, 0 when none did, with every report on the way.

    `found` is whether a rate just above it did not hold. Otherwise the search ended early: the generator fell behind
    first, or the limit on rates was reached.
    """

    rate: float
    found: bool
    reports: tuple[LoadReport, ...]


def holds(report: LoadReport, objective: float) -> bool:
    """Return whether answers kept up with requests (98 of 100), and p99 was within `objective` seconds."""
    return report.throughput >= KEPT_UP * report.offered and 0 < report.latency.get("p99", 0.0) <= objective


def find_saturation(
    measure: Callable[[float], LoadReport],
    *,
    objective: float,
    start: float = 50.0,
    limit: float = 20_000.0,
) -> Saturation:
    """Search for the highest rate that holds: double until one does not, halve until one does, then bisect.

    `measure` loads the server at a rate. A rate that does not hold is tried once more, since one pause of the machine
    is enough to miss the objective. The search ends within 5 %, or below one request per second.
    """
    reports: list[LoadReport] = []

    def attempt(rate: float) -> bool:
        for _ in range(2):
            reports.append(measure(rate))
            if holds(reports[-1], objective):
                return True
        return False

    lower, upper, rate = 0.0, None, min(start, limit)
    while upper is None or (upper - lower > PRECISION * upper and upper > 1):
        if attempt(rate):
            lower = rate
        elif reports[-1].fell_behind:
            return Saturation(lower, False, tuple(reports))
        else:
            upper = rate
        if upper is None:
            if lower >= limit:
                return Saturation(lower, False, tuple(reports))
            rate = min(2 * lower, limit)
        else:
            rate = (lower + upper) / 2
    return Saturation(lower, True, tuple(reports))
