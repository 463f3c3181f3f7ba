"""What pictures read from evaluations: numbers in percent, over places, for one run or the mean of several."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from subspace_serve.errors import SubspaceServeError
from subspace_serve.measure.image_sets import CorruptedSet, ImageSet
from subspace_serve.measure.point_results import Result
from subspace_serve.measure.results import Evaluation
from subspace_serve.space.place import Alpha, is_end, is_midpoint


def as_runs(evaluation: Evaluation | Sequence[Evaluation]) -> list[Evaluation]:
    """Return one evaluation, or one for each run, as a list.

    Raises:
        SubspaceServeError: there are no points, or runs were evaluated at different alphas.
    """
    runs = [evaluation] if isinstance(evaluation, Evaluation) else list(evaluation)
    check_same_points(runs)
    return runs


def check_same_points(runs: Sequence[ImageSet]) -> None:
    """Refuse runs without points, or with different ones.

    Raises:
        SubspaceServeError: there are no points, or runs were evaluated at different alphas.
    """
    if not runs or not all(run.points for run in runs):
        raise SubspaceServeError("There is nothing to draw: the evaluation has no points.")
    alphas = [[point.alpha for point in run.points] for run in runs]
    for number, found in enumerate(alphas):
        if found != alphas[0]:
            raise SubspaceServeError(
                f"Runs drawn together must be evaluated at the same alphas; the first has {alphas[0]}, "
                f"number {number + 1} has {found}."
            )


def mean_and_deviation(fractions: Sequence[float]) -> tuple[float, float]:
    """Return both in percent; the deviation is the sample's (n - 1), and 0 for a single run."""
    deviation = statistics.stdev(fractions) if len(fractions) > 1 else 0.0
    return 100 * statistics.fmean(fractions), 100 * deviation


def place_name(alpha: Alpha) -> str:
    """Return alpha on a line or curve; on a simplex the name of an endpoint or the midpoint, else the coordinates."""
    if not isinstance(alpha, Sequence):
        return f"{alpha:g}"
    if is_midpoint(alpha):  # first: a single network is both
        return "midpoint"
    if max(alpha) == 1:
        return f"endpoint-{list(alpha).index(1)}"
    return ", ".join(f"{part:.2g}" for part in alpha)


def full_place_name(alpha: Alpha) -> str:
    """Return a place's name, on a line or curve with its alpha: `midpoint (α = 0.5)`."""
    if isinstance(alpha, Sequence):
        return place_name(alpha)
    name = "midpoint" if is_midpoint(alpha) else f"endpoint-{int(alpha)}" if is_end(alpha) else ""
    return f"{name} (α = {alpha:g})" if name else f"α = {alpha:g}"


def corruption_name(entry: CorruptedSet) -> str:
    """Return a corruption's name for people: `motion blur 3`, or `motion blur` in a set without severities."""
    name = entry.corruption.replace("_", " ")
    return name if entry.severity is None else f"{name} {entry.severity}"


def matched_corruptions(runs: Sequence[Evaluation]) -> list[list[CorruptedSet]]:
    """Return, for each corruption and severity of the first run, that entry of every run.

    Raises:
        SubspaceServeError: there are no corruptions, or the runs differ in theirs or in the alphas.
    """
    keyed = [{(entry.corruption, entry.severity): entry for entry in run.corruptions} for run in runs]
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


def clean_and_corrupted(runs: Sequence[Evaluation]) -> list[tuple[str, Sequence[ImageSet]]]:
    """Return the clean images and each corruption, by name, of every run.

    Raises:
        SubspaceServeError: as `matched_corruptions`.
    """
    return [("clean", runs), *((corruption_name(entries[0]), entries) for entries in matched_corruptions(runs))]


def baselines_of(measured: Sequence[ImageSet]) -> list[Result]:
    """Return the standard network's results, one per run; empty unless every run has one."""
    found = [run.baseline for run in measured if run.baseline is not None]
    return found if len(found) == len(measured) else []


def deployable(evaluation: ImageSet) -> dict[str, Result]:
    """Return by name the midpoint, the ends, their ensemble and the standard network, where they were measured."""
    points = [*([evaluation.midpoint] if evaluation.midpoint is not None else []), *evaluation.ends]
    found: dict[str, Result | None] = {full_place_name(point.alpha): point for point in points}
    found |= {"ensemble of the ends": evaluation.endpoints_ensemble, "standard network": evaluation.baseline}
    return {name: result for name, result in found.items() if result is not None}
