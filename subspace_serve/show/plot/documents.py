"""What pictures read from evaluations: series in percent, over places, for one run or the mean of several."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from subspace_serve.errors import SubspaceServeError
from subspace_serve.space.place import is_end, is_midpoint

Document = Mapping[str, Any]
"""JSON values, from memory or from a file: what `measure.evaluate` returns, or a part of it."""


class Series(NamedTuple):
    """One metric at several places, in percent: means and sample standard deviations over runs."""

    means: list[float]
    deviations: list[float]


def as_runs(evaluation: Document | Sequence[Document]) -> list[Document]:
    """Return one evaluation, or one for each run, as a list.

    Raises:
        SubspaceServeError: there are no points, or runs were evaluated at different alphas.
    """
    runs = [evaluation] if isinstance(evaluation, Mapping) else list(evaluation)
    check_same_points(runs)
    return runs


def check_same_points(runs: Sequence[Document]) -> None:
    """Refuse runs without points, or with different ones.

    Raises:
        SubspaceServeError: there are no points, or runs were evaluated at different alphas.
    """
    if not runs or not all(run.get("points") for run in runs):
        raise SubspaceServeError("There is nothing to draw: the evaluation has no points.")
    alphas = [[_as_in_a_file(point["alpha"]) for point in run["points"]] for run in runs]
    for number, found in enumerate(alphas):
        if found != alphas[0]:
            raise SubspaceServeError(
                f"Runs drawn together must be evaluated at the same alphas; the first has {alphas[0]}, "
                f"number {number + 1} has {found}."
            )


def order_of(points: Sequence[Document]) -> list[int]:
    """Return the order in which points are drawn: by alpha on a line or curve, as they come on a simplex."""
    given = [point["alpha"] for point in points]
    if isinstance(given[0], Sequence):
        return list(range(len(given)))
    return sorted(range(len(given)), key=given.__getitem__)


def series(runs: Sequence[Document], kind: str, metric: str, order: Sequence[int]) -> Series:
    """Return one metric of the single models (`kind` metrics) or of the pairs (`ensemble`), over the points."""
    pairs = [mean_and_deviation([run["points"][index][kind][metric] for run in runs]) for index in order]
    return Series([mean for mean, _ in pairs], [deviation for _, deviation in pairs])


def mean_and_deviation(fractions: Sequence[float]) -> tuple[float, float]:
    """In percent; the deviation is the sample's (n - 1), and 0 for a single run."""
    deviation = statistics.stdev(fractions) if len(fractions) > 1 else 0.0
    return 100 * statistics.fmean(fractions), 100 * deviation


def has_kind(runs: Sequence[Document], kind: str) -> bool:
    """Return whether every point of every run has metrics of this kind."""
    return all(point.get(kind) for run in runs for point in run["points"])


def place_name(alpha: float | Sequence[float]) -> str:
    """Return alpha of a line or curve; on a simplex the name of a vertex or the midpoint, or else the coordinates."""
    if not isinstance(alpha, Sequence):
        return f"{alpha:g}"
    if max(alpha) == 1:
        return f"endpoint-{list(alpha).index(1)}"
    if is_midpoint(alpha):
        return "midpoint"
    return ", ".join(f"{part:.2g}" for part in alpha)


def full_place_name(alpha: float | Sequence[float]) -> str:
    """Return a place's name with, on a line or curve, its alpha: `midpoint (alpha 0.5)`."""
    if isinstance(alpha, Sequence):
        return place_name(alpha)
    name = "midpoint" if is_midpoint(alpha) else f"endpoint-{int(alpha)}" if is_end(alpha) else ""
    return f"{name} (α = {alpha:g})" if name else f"α = {alpha:g}"


def corruption_name(entry: Document) -> str:
    """Return a corruption as it is read by people: `motion blur 3`."""
    return f"{entry['corruption'].replace('_', ' ')} {entry['severity']}"


def matched_corruptions(runs: Sequence[Document]) -> list[list[Document]]:
    """Return, for each corruption and severity of the first run, that entry of every run.

    Raises:
        SubspaceServeError: there are no corruptions, or the runs differ in theirs or in the alphas.
    """
    keyed = [
        {(entry["corruption"], entry["severity"]): entry for entry in run.get("corruptions") or ()} for run in runs
    ]
    if not keyed[0]:
        raise SubspaceServeError(
            "There are no corruptions to draw: evaluate with corruptions (evaluate --corruption NAME)."
        )
    if any(other.keys() != keyed[0].keys() for other in keyed):
        raise SubspaceServeError("Runs drawn together must be evaluated on the same corruptions and severities.")
    matched = [[run[key] for run in keyed] for key in keyed[0]]
    for entries in matched:
        check_same_points(entries)
    return matched


def _as_in_a_file(alpha: float | Sequence[float]) -> float | list[float]:
    return list(alpha) if isinstance(alpha, Sequence) else alpha
