"""The tables that `evaluate` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.output import metric_cells, percent, print_table
from subspace_serve.cli.recommending import MARK, Marks

if TYPE_CHECKING:
    from subspace_serve.space.subspace import Subspace


def print_evaluation(document: dict[str, Any], subspace: Subspace) -> None:
    """Print a row for each network and each ensemble, with a mark on what the run is recommended for."""
    from subspace_serve.space.place import place_text

    marks = Marks(document, subspace)
    has_pairs = any("ensemble" in point for point in document["points"])
    header = ["alpha", "accuracy %", "NLL", "ECE %", "Brier"]
    if has_pairs:
        header += ["with 1-alpha: accuracy %", "ECE %"]
    rows = []
    for point in document["points"]:
        row = [marks.label(place_text(point["alpha"]), [point["alpha"]]), *metric_cells(point["metrics"])]
        if has_pairs:
            row += [percent(point["ensemble"]["accuracy"]), percent(point["ensemble"]["ece"])]
        rows.append(row)
    padding = [""] * (len(header) - 5)
    if "endpoints_ensemble" in document:
        ends = document["endpoints_ensemble"]
        rows.append([marks.label("ensemble of the ends", ends["members"]), *metric_cells(ends["metrics"]), *padding])
    for name, ensemble in document.get("ensembles", {}).items():
        rows.append([f"ensemble {name}", *metric_cells(ensemble["metrics"]), *padding])
    for name, model in marks.missing().items():
        rows.append([name + MARK, *metric_cells(model["metrics"]), *padding])
    if "baseline" in document:
        rows.append(["baseline", *metric_cells(document["baseline"]), *padding])
    print_table(header, rows)
    click.echo(
        f"{document['count']} images of {document['data']}; ensembles average {document['aggregate']}; BatchNorm from "
        f"{document['calibration']['count']} images of {document['calibration']['data']}"
    )
    if footer := marks.footer(document, subspace):
        click.echo(footer)


def print_corruptions(document: dict[str, Any]) -> None:
    """Print a row for each corruption: accuracy at each alpha, and relative changes."""
    from subspace_serve.space.place import place_text

    points = document["points"]
    columns = [place_text(point["alpha"]) for point in points]
    has_baseline = "baseline" in document
    extra = ["baseline"] if has_baseline else []
    click.echo("\nAccuracy % on corrupted images, by alpha:")
    rows = [
        ["clean"]
        + [percent(point["metrics"]["accuracy"]) for point in points]
        + ([percent(document["baseline"]["accuracy"])] if has_baseline else [])
    ]
    changes = []
    for corruption in document["corruptions"]:
        severity = corruption["severity"]
        name = corruption["corruption"] + (f":{severity}" if severity else "")
        measured = [*corruption["points"], *([corruption["baseline"]] if has_baseline else [])]
        rows.append([name, *(percent(entry["metrics"]["accuracy"]) for entry in measured)])
        changes.append([name, *(percent(entry["relative_change"]) for entry in measured)])
    print_table(["corruption", *columns, *extra], rows)
    click.echo("\nRelative change of accuracy from clean to corrupted, (b - a)/a, in %:")
    print_table(["corruption", *columns, *extra], changes)
    errors = document["mean_corruption_error"]
    click.echo("\nMean corruption error, in %:")
    error_rows = [["error", *(percent(entry["error"]) for entry in errors["points"])]]
    if has_baseline:
        error_rows[0].append(percent(errors["baseline"]["error"]))
        if all("normalised" in entry for entry in errors["points"]):
            error_rows.append(
                ["relative to the baseline", *(percent(entry["normalised"]) for entry in errors["points"]), percent(1)]
            )
    print_table(["", *columns, *extra], error_rows)
