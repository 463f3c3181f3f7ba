"""The report's section on corrupted images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from subspace_serve.measure.image_sets import ImageSet
from subspace_serve.measure.results import Evaluation
from subspace_serve.show import plot
from subspace_serve.show.plot.corrupted import best_advantage, change_of, midpoint_advantage
from subspace_serve.show.plot.documents import baselines_of, corruption_name, place_name
from subspace_serve.show.report.content import (
    DOTS_PER_INCH,
    LONG,
    Documents,
    Figure,
    Section,
    Table,
    percent,
    points,
)


def corruptions(documents: Documents) -> Section:
    """Return the section on corruptions: heat map, curves (figure 9) and relative change (figures 19 and 20)."""
    evaluation = documents.evaluation
    title = "What if the images are worse?"
    introduction = (
        "The same images, corrupted in known ways (fog, noise, blur …) at severities from 1 to 5. The networks are the "
        "ones above: nothing was adapted to the corrupted images."
    )
    if not evaluation.corruptions:
        missing = "Not measured. Run `subspace-serve report --corruption fog,motion_blur` or `--corruption all`."
        return Section("corruptions", title, introduction, missing=missing)
    shown = _of_middle_severity(evaluation)
    severity = shown.corruptions[0].severity
    at = "" if severity is None else f" of severity {severity}"
    figures = [
        Figure(
            "heatmap.png",
            _heatmap_in_words(evaluation),
            partial(plot.plot_heatmap, evaluation, dots_per_inch=DOTS_PER_INCH),
        ),
        Figure(
            "corruptions.png",
            f"Accuracy along the subspace on clean images and on {len(shown.corruptions)} corruptions{at}.",
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
    if baselines_of(evaluation.corruptions):
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


def _accuracy_table(evaluation: Evaluation) -> Table:
    def cells(measured: ImageSet) -> list[str]:
        found = [percent(point.accuracy) for point in measured.ordered]
        if evaluation.baseline is not None:
            found.append(percent(measured.baseline.accuracy) if measured.baseline is not None else "")
        return found

    header = ["corruption", *(place_name(point.alpha) for point in evaluation.ordered)]
    header += ["standard network"] if evaluation.baseline is not None else []
    rows = [["clean", *cells(evaluation)]]
    rows += [[corruption_name(entry), *cells(entry)] for entry in evaluation.corruptions]
    return Table("Accuracy in percent, by alpha.", header, rows, folded=True)


def _error_table(evaluation: Evaluation) -> Table:
    header, caption = ["alpha", "mean error %"], "Error under corruption, mean over all types: lower is better."
    errors = evaluation.mean_corruption_error
    if errors is None:
        return Table(caption, header, [])
    names = [place_name(point.alpha) for point in evaluation.points]
    rows = [[name, percent(error)] for name, error in zip(names, errors.points, strict=True)]
    if errors.baseline is not None:
        rows.append(["standard network", percent(errors.baseline)])
    if errors.normalised is not None:
        for row, share in zip(rows, (*errors.normalised, 1.0), strict=True):
            row.append(percent(share))
        header.append("in % of the standard network's (mCE)")
        caption += (
            " The last column is the mean of each type's ratio to the standard network: easy types count as much as "
            "hard ones."
        )
    return Table(caption, header, rows)


def _change_table(evaluation: Evaluation) -> Table:
    rows = [
        [
            corruption_name(entry),
            points(change_of(entry.baseline)),
            points(midpoint_advantage(entry)) if entry.midpoint is not None else "",
            points(best_advantage(entry)),
        ]
        for entry in evaluation.corruptions
    ]
    header = ["corruption", "standard network changes by %", "midpoint less that", "best place less that"]
    return Table("Relative change of accuracy, (b − a)/a.", header, rows, folded=len(rows) > LONG)


def _of_middle_severity(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation with the corruptions of the middle severity only: panels for all would be too many."""
    severities = sorted({entry.severity for entry in evaluation.corruptions}, key=lambda severity: severity or 0)
    middle = severities[len(severities) // 2]
    return replace(evaluation, corruptions=tuple(e for e in evaluation.corruptions if e.severity == middle))


def _heatmap_in_words(evaluation: Evaluation) -> str:
    best = [
        f"{corruption_name(entry)} {percent(entry.best.accuracy)} percent at {place_name(entry.best.alpha)}"
        for entry in evaluation.corruptions
    ]
    return f"Accuracy by corruption and place. The best of each row: {'; '.join(best)}."
