"""The report's summary: the deployable networks side by side, and whether their differences are beyond chance."""

from __future__ import annotations

import math

from subspace_serve.measure.point_results import Metrics
from subspace_serve.measure.results import Evaluation
from subspace_serve.show.plot.documents import deployable
from subspace_serve.show.report.content import Documents, Section, Table, metric_cells, percent
from subspace_serve.space.place import place

_NORMAL_95 = 1.96


def summary(documents: Documents) -> Section:
    """Return the section with the findings and a table of the deployable networks."""
    evaluation = documents.evaluation
    count = evaluation.count
    rows = [
        [name, _with_error(metrics["accuracy"], count), *metric_cells(metrics)[1:], cost]
        for name, metrics, cost in choices(evaluation)
    ]
    return Section(
        key="summary",
        title="In short",
        introduction=" ".join(findings(documents)),
        tables=[
            Table(
                f"What can be deployed, measured on {count:,} images ({evaluation.data or 'not recorded'}). ± is "
                "one standard error of the accuracy: how far it would move with other images of the same kind.",
                ["network", "accuracy %", "NLL", "ECE %", "Brier", "networks to run"],
                rows,
            )
        ],
    )


def choices(evaluation: Evaluation) -> list[tuple[str, Metrics, str]]:
    """Return name, metrics and number of networks to run of each deployable model, recommended ones included."""
    ends = evaluation.endpoints_ensemble
    found = [
        (name, result.metrics, str(len(ends.members) or "several") if ends is not None and result is ends else "1")
        for name, result in deployable(evaluation).items()
    ]
    shown = [{place(point.alpha)} for point in (evaluation.midpoint, *evaluation.ends) if point is not None]
    shown += [set(map(place, ends.members))] if ends is not None else []
    for name, entry in evaluation.recommended.items():
        members = set(map(place, entry.candidate.members))
        if members not in shown:
            found.append((f"{name} (recommended)", entry.metrics, str(len(members))))
    return found


def findings(documents: Documents) -> list[str]:
    """Return the findings as sentences that claim no more than the images can show."""
    evaluation = documents.evaluation
    count = evaluation.count
    made = "imported" if "import" in (documents.run.get("provenance") or {}) else "trained"
    use = [f"The run was {made} to be used as: {', '.join(evaluation.use)}."] if evaluation.use else []
    if evaluation.midpoint is None:
        return ["The midpoint was not measured.", *use]
    midpoint = evaluation.midpoint.metrics
    sentences = [
        f"The midpoint, one ordinary network, is right on {percent(midpoint['accuracy'])} % of the images and its "
        f"confidence is off by {percent(midpoint['ece'])} points on average."
    ]
    if evaluation.baseline is not None:
        sentences.append(_compared("It", midpoint, "the standard network", evaluation.baseline.metrics, count))
    if evaluation.endpoints_ensemble is not None:
        ensemble = evaluation.endpoints_ensemble.metrics
        sentences.append(_compared("The ensemble of the ends", ensemble, "the midpoint", midpoint, count))
    moved = [name for name, selection in documents.selections.items() if not selection.get("kept_midpoint")]
    if documents.selections:
        kept = len(documents.selections) - len(moved)
        sentences.append(
            f"Of {len(documents.selections)} stored selection(s), {len(moved)} moved away from the midpoint and {kept} "
            "kept it."
        )
    return sentences + use


def _compared(name: str, metrics: Metrics, other_name: str, other: Metrics, count: int) -> str:
    """Return a comparison in words, which says so when the difference may be chance.

    Both were measured on the same images, so the standard error of their difference is smaller than that of independent
    measurements, which is used here to be conservative.
    """
    difference = metrics["accuracy"] - other["accuracy"]
    error = math.hypot(standard_error(metrics["accuracy"], count), standard_error(other["accuracy"], count))
    size = f"{percent(abs(difference))} points"
    if abs(difference) <= _NORMAL_95 * error:
        return f"{name} differs from {other_name} by {size} in accuracy, which may be chance on {count:,} images."
    return f"{name} is {size} {'more' if difference > 0 else 'less'} accurate than {other_name}."


def standard_error(accuracy: float, count: int) -> float:
    """Return the standard error of an accuracy on `count` images: that of a binomial proportion."""
    return math.sqrt(accuracy * (1 - accuracy) / count)


def _with_error(accuracy: float, count: int) -> str:
    return f"{percent(accuracy)} ± {percent(standard_error(accuracy, count))}"
