"""What an evaluation says of corrupted images."""

from __future__ import annotations

from functools import partial

from subspace_serve.show import plot
from subspace_serve.show.plot.corrupted import best_advantage, midpoint_advantage
from subspace_serve.show.plot.documents import corruption_name, order_of, place_name
from subspace_serve.show.report.content import (
    DOTS_PER_INCH,
    LONG,
    Document,
    Documents,
    Figure,
    Section,
    Table,
    percent,
    points,
)
from subspace_serve.space.place import is_midpoint


def corruptions(documents: Documents) -> Section:
    """Accuracy under corruption: heat map, along the subspace (figure 9), relative change (figures 19 and 20)."""
    evaluation = documents.evaluation
    title = "What if the images are worse?"
    introduction = (
        "The same images, spoilt in known ways (fog, noise, blur …) at severities from 1 to 5. The networks are the "
        "ones above: nothing was adapted to the spoilt images."
    )
    entries = evaluation.get("corruptions")
    if not entries:
        missing = "Not measured. Run `subspace-serve report --corruption fog,motion_blur` or `--corruption all`."
        return Section("corruptions", title, introduction, missing=missing)
    shown = _of_middle_severity(evaluation)
    severity = shown["corruptions"][0]["severity"]
    figures = [
        Figure(
            "heatmap.png",
            _heatmap_in_words(evaluation),
            partial(plot.plot_heatmap, evaluation, dots_per_inch=DOTS_PER_INCH),
        ),
        Figure(
            "corruptions.png",
            f"Accuracy along the subspace on clean images and on {len(shown['corruptions'])} corruptions of severity "
            f"{severity}.",
            partial(plot.plot_corruptions, shown, dots_per_inch=DOTS_PER_INCH),
        ),
    ]
    reading = [
        "The table of colours has a row for each corruption and a column for each place; lighter is more accurate and "
        "the best place of a row is bold. Look for rows whose best place is not where the clean images' is: there, "
        "choosing α for the domain can pay.",
        "The curves show the same rows, each on a scale of its own, for ensembles too.",
    ]
    tables = [_accuracy_table(evaluation), _error_table(evaluation)]
    if all(entry.get("baseline") for entry in entries):
        figures.append(
            Figure(
                "relative-change.png",
                "Relative change of accuracy under each corruption, the subspace's less the standard network's.",
                partial(plot.plot_relative_change, evaluation, dots_per_inch=DOTS_PER_INCH),
            )
        )
        reading.append(
            "The bars compare losses: a network that falls from a to b has changed by (b − a)/a. A bar to the right "
            "says that the subspace lost less of its accuracy than the standard network, whatever it started from. On "
            "the right side the best place was chosen on these very images, which shows what there is to gain, not "
            "what a fair choice gains."
        )
        tables.append(_change_table(evaluation))
    return Section("corruptions", title, introduction, reading, figures, [table for table in tables if table.rows])


def _accuracy_table(evaluation: Document) -> Table:
    order = order_of(evaluation["points"])
    baseline = bool(evaluation.get("baseline"))
    header = ["corruption", *(place_name(evaluation["points"][index]["alpha"]) for index in order)]
    rows = [["clean", *(percent(evaluation["points"][index]["metrics"]["accuracy"]) for index in order)]]
    if baseline:
        rows[0].append(percent(evaluation["baseline"]["accuracy"]))
    for entry in evaluation["corruptions"]:
        row = [corruption_name(entry), *(percent(entry["points"][i]["metrics"]["accuracy"]) for i in order)]
        if baseline:
            row.append(percent(entry["baseline"]["metrics"]["accuracy"]) if entry.get("baseline") else "")
        rows.append(row)
    header += ["standard network"] if baseline else []
    return Table("Accuracy in percent, by alpha.", header, rows, folded=True)


def _error_table(evaluation: Document) -> Table:
    errors = evaluation.get("mean_corruption_error") or {"points": []}
    normalised = bool(errors["points"]) and all("normalised" in point for point in errors["points"])
    rows = [
        [place_name(point["alpha"]), percent(point["error"]), *([percent(point["normalised"])] if normalised else [])]
        for point in errors["points"]
    ]
    if errors.get("baseline"):
        rows.append(["standard network", percent(errors["baseline"]["error"]), *(["100.00"] if normalised else [])])
    header = ["alpha", "mean error %", *(["in % of the standard network's (mCE)"] if normalised else [])]
    caption = "Error under corruption, mean over all types: lower is better."
    if normalised:
        caption += (
            " The last column is the mean of each type's ratio to the standard network: easy types count as much as "
            "hard ones."
        )
    return Table(caption, header, rows)


def _change_table(evaluation: Document) -> Table:
    rows = []
    for entry in evaluation["corruptions"]:
        has_midpoint = any(is_midpoint(point["alpha"]) for point in entry["points"])
        rows.append(
            [
                corruption_name(entry),
                points(entry["baseline"]["relative_change"]),
                points(midpoint_advantage(entry)) if has_midpoint else "",
                points(best_advantage(entry)),
            ]
        )
    header = ["corruption", "standard network changes by %", "midpoint less that", "best place less that"]
    return Table("Relative change of accuracy, (b − a)/a.", header, rows, folded=len(rows) > LONG)


def _of_middle_severity(evaluation: Document) -> Document:
    """Return the evaluation with the corruptions of one severity, the middle one: a panel each for all is too many."""
    severities = sorted({entry["severity"] for entry in evaluation["corruptions"]})
    middle = severities[len(severities) // 2]
    kept = [entry for entry in evaluation["corruptions"] if entry["severity"] == middle]
    return {**evaluation, "corruptions": kept}


def _heatmap_in_words(evaluation: Document) -> str:
    best = []
    for entry in evaluation["corruptions"]:
        point = max(entry["points"], key=lambda point: point["metrics"]["accuracy"])
        best.append(
            f"{corruption_name(entry)} {percent(point['metrics']['accuracy'])} percent at {place_name(point['alpha'])}"
        )
    return f"Accuracy by corruption and place. The best of each row: {'; '.join(best)}."
