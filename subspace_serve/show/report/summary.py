"""The networks that one can deploy, side by side, and what their differences are worth."""

from __future__ import annotations

import math

from subspace_serve.show.plot.documents import full_place_name
from subspace_serve.show.report.content import Document, Documents, Section, Table, percent
from subspace_serve.space.place import is_end, is_midpoint, place

_NORMAL_95 = 1.96


def summary(documents: Documents) -> Section:
    """Return the choices that there are, with their accuracy on the measured images."""
    evaluation = documents.evaluation
    count = evaluation["count"]
    rows = [
        [name, _with_error(metrics["accuracy"], count), *_other_metrics(metrics), cost]
        for name, metrics, cost in choices(evaluation)
    ]
    return Section(
        key="summary",
        title="In short",
        introduction=" ".join(findings(documents)),
        tables=[
            Table(
                f"What can be deployed, measured on {count:,} images ({evaluation.get('data', 'not recorded')}). ± is "
                "one standard error of the accuracy: how far it would move with other images of the same kind.",
                ["network", "accuracy %", "NLL", "ECE %", "Brier", "networks to run"],
                rows,
            )
        ],
    )


def choices(evaluation: Document) -> list[tuple[str, Document, str]]:
    """Return name, metrics and number of networks: midpoint, ends, their ensemble, standard network."""
    chosen = [point for point in evaluation["points"] if is_midpoint(point["alpha"])]
    chosen += [point for point in evaluation["points"] if is_end(point["alpha"]) and not is_midpoint(point["alpha"])]
    found = [(full_place_name(point["alpha"]), point["metrics"], "1") for point in chosen]
    ends = evaluation.get("endpoints_ensemble")
    if ends:
        found.append(("ensemble of the ends", ends["metrics"], str(len(ends.get("members", [])) or "several")))
    if evaluation.get("baseline"):
        found.append(("standard network", evaluation["baseline"], "1"))
    shown = [{place(point["alpha"])} for point in chosen]
    shown += [{place(alpha) for alpha in ends.get("members", [])}] if ends else []
    for name, entry in evaluation.get("recommended", {}).items():
        members = {place(alpha) for alpha in entry.get("members", [entry.get("alpha")])}
        if members not in shown:
            found.append((f"{name} (recommended)", entry["metrics"], str(len(members))))
    return found


def findings(documents: Documents) -> list[str]:
    """Return what the numbers say, a sentence each, with no more claimed than the images can show."""
    evaluation = documents.evaluation
    count = evaluation["count"]
    midpoint = next((point["metrics"] for point in evaluation["points"] if is_midpoint(point["alpha"])), None)
    use = [f"The run was trained to be used as: {', '.join(evaluation['use'])}."] if evaluation.get("use") else []
    if midpoint is None:
        return ["The midpoint was not measured.", *use]
    sentences = [
        f"The midpoint, one ordinary network, is right on {percent(midpoint['accuracy'])} % of the images and its "
        f"confidence is off by {percent(midpoint['ece'])} points on average."
    ]
    if evaluation.get("baseline"):
        sentences.append(_compared("It", midpoint, "the standard network", evaluation["baseline"], count))
    if evaluation.get("endpoints_ensemble"):
        ensemble = evaluation["endpoints_ensemble"]["metrics"]
        sentences.append(_compared("The ensemble of the ends", ensemble, "the midpoint", midpoint, count))
    moved = [name for name, selection in documents.selections.items() if not selection.get("kept_midpoint")]
    if documents.selections:
        kept = len(documents.selections) - len(moved)
        sentences.append(
            f"Of {len(documents.selections)} stored selection(s), {len(moved)} moved away from the midpoint and {kept} "
            "kept it."
        )
    return sentences + use


def _compared(name: str, metrics: Document, other_name: str, other: Document, count: int) -> str:
    """Return a comparison in words; a difference within chance is said to be that.

    Both were measured on the same images, which makes the difference surer than the two errors taken apart say: they
    are taken apart here, so that no claim is too large.
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


def _other_metrics(metrics: Document) -> list[str]:
    return [f"{metrics['nll']:.4f}", percent(metrics["ece"]), f"{metrics['brier']:.4f}"]
