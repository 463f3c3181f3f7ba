"""The report's sections on clean images: accuracy along the subspace, and reliability."""

from __future__ import annotations

from functools import partial

from subspace_serve.show import plot
from subspace_serve.show.plot.documents import place_name
from subspace_serve.show.plot.reliability import calibration_error, reliability_diagrams
from subspace_serve.show.report.content import (
    DOTS_PER_INCH,
    LONG,
    Documents,
    Figure,
    Section,
    Table,
    metric_cells,
    percent,
    points,
)


def along(documents: Documents) -> Section:
    """Return the section on accuracy and calibration over the subspace (figures 4 to 6)."""
    evaluation = documents.evaluation
    header = ["alpha", "accuracy %", "NLL", "ECE %", "Brier"]
    header += ["with 1 − alpha: accuracy %", "ECE %"] if evaluation.has_pairs else []
    rows = []
    for point in evaluation.ordered:
        row = [place_name(point.alpha), *metric_cells(point.metrics)]
        rows.append(row + [percent(point.ensemble[key]) for key in ("accuracy", "ece") if point.ensemble])
    lowest = min(point.accuracy for point in evaluation.points)
    return Section(
        key="along",
        title="How good are the networks along the subspace?",
        introduction=f"Each place α was collapsed into one network, recalibrated and measured on "
        f"{evaluation.count:,} images.",
        reading=[
            "Left, higher is better; right, lower is better. The scales do not start at zero, so that small "
            "differences can be seen: look at the numbers before you call one large.",
            "Dashed: one network at α. Solid: the networks at α and 1 − α averaged, which costs twice as much to run; "
            "in the middle both are the same network. Dotted: a standard network, where one was measured.",
            "The place that is highest here was not chosen fairly: it is the best of many on these very images. "
            "Selections, below, are.",
        ],
        figures=[
            Figure(
                "accuracy.png",
                f"Accuracy and expected calibration error over the subspace. Accuracy of single networks runs from "
                f"{percent(lowest)} to {percent(evaluation.best.accuracy)} percent, the highest at "
                f"{place_name(evaluation.best.alpha)}.",
                partial(plot.plot_subspace, evaluation, dots_per_inch=DOTS_PER_INCH),
            )
        ],
        tables=[Table("Every place that was measured.", header, rows, folded=len(rows) > LONG)],
    )  # fmt: skip


def reliability(documents: Documents) -> Section:
    """Return the section with the reliability diagrams of the deployable networks."""
    title, introduction = (
        "Can their confidence be believed?",
        "A network gives each answer a probability. Of all answers given with about 80 % some 80 % should be right.",
    )
    diagrams = reliability_diagrams(documents.evaluation)
    if not diagrams:
        missing = "This evaluation holds no reliability diagrams: run `report` without --evaluation to measure them."
        return Section("reliability", title, introduction, missing=missing)
    rows = []
    for name, bins in diagrams.items():
        count = sum(part["count"] for part in bins)
        confidence = sum(part["count"] * (part["confidence"] or 0) for part in bins) / count
        accuracy = sum(part["count"] * (part["accuracy"] or 0) for part in bins) / count
        rows.append(
            [
                name,
                percent(confidence),
                percent(accuracy),
                points(confidence - accuracy),
                percent(calibration_error(bins)),
            ]
        )
    described = "; ".join(
        f"{row[0]}: mean confidence {row[1]}, accuracy {row[2]}, ECE {row[4]} percent" for row in rows
    )
    return Section(
        "reliability",
        title,
        introduction,
        [
            "Answers are sorted by confidence into bins. A bar is how many of a bin's answers were right; the hatched "
            "part reaches to the confidence that was claimed. Hatching above a bar is overconfidence, hatching inside "
            "it underconfidence; without hatching the bar ends on the dotted diagonal.",
            "Below: how many of the answers fall into each bin. A large gap in a bin with few answers matters little; "
            "the ECE weighs each gap by its answers.",
        ],
        [
            Figure(
                "reliability.png",
                f"Reliability diagrams. {described}.",
                partial(plot.plot_reliability, diagrams, dots_per_inch=DOTS_PER_INCH),
            )
        ],
        [
            Table(
                "Mean confidence against accuracy.",
                ["network", "confidence %", "accuracy %", "overconfidence", "ECE %"],
                rows,
            )
        ],
    )
