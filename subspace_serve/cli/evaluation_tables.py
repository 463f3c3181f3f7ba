"""The tables that `evaluate` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from subspace_serve.cli.output import metric_cells, percent, print_table
from subspace_serve.cli.recommending import MARK, Marks

if TYPE_CHECKING:
    from subspace_serve.measure.image_sets import ImageSet
    from subspace_serve.measure.point_results import Result
    from subspace_serve.measure.results import Evaluation
    from subspace_serve.space.subspace import Subspace


def print_evaluation(evaluation: Evaluation, subspace: Subspace) -> None:
    """Print a row for each network and each ensemble, with a mark on those recommended for this run."""
    from subspace_serve.space.place import place_text

    marks = Marks(evaluation, subspace)
    has_pairs = evaluation.has_pairs
    header = ["alpha", "accuracy %", "NLL", "ECE %", "Brier"]
    header += ["with 1-alpha: accuracy %", "ECE %"] if has_pairs else []
    rows = []
    for point in evaluation.points:
        row = [marks.label(place_text(point.alpha), [point.alpha]), *metric_cells(point.metrics)]
        rows.append(row + [percent(point.ensemble[key]) for key in ("accuracy", "ece") if point.ensemble])
    others: list[tuple[str, Result]] = []
    if (ends := evaluation.endpoints_ensemble) is not None:
        others.append((marks.label("ensemble of the ends", ends.members), ends))
    others += [(f"ensemble {name}", result) for name, result in evaluation.ensembles.items()]
    others += [(name + MARK, result) for name, result in marks.missing().items()]
    others += [("baseline", evaluation.baseline)] if evaluation.baseline is not None else []
    padding = [""] * (len(header) - 5)
    print_table(header, rows + [[name, *metric_cells(result.metrics), *padding] for name, result in others])
    _print_footer(evaluation, subspace, marks, f"{evaluation.count} images of {evaluation.data}")


def print_domains(evaluation: Evaluation, subspace: Subspace) -> None:
    """Print a row for each network and each ensemble, with its accuracy on each domain."""
    from subspace_serve.space.place import place_text

    marks, domains = Marks(evaluation, subspace), evaluation.domains

    def row(label: str, results: Iterable[Result | None]) -> list[str]:
        return [label, *(percent(result.accuracy) for result in results if result is not None)]

    rows = [
        row(marks.label(place_text(point.alpha), [point.alpha]), (domain.points[number] for domain in domains))
        for number, point in enumerate(evaluation.points)
    ]
    if (ends := evaluation.endpoints_ensemble) is not None:
        label = marks.label("ensemble of the ends", ends.members)
        rows.append(row(label, (domain.endpoints_ensemble for domain in domains)))
    rows += [row(f"ensemble {name}", (domain.ensembles[name] for domain in domains)) for name in evaluation.ensembles]
    rows += [row(name + MARK, (domain.recommended[name] for domain in domains)) for name in marks.missing()]
    click.echo("Accuracy % on each domain, by alpha (--json has NLL, ECE and Brier score too):")
    print_table(["alpha", *(domain.name for domain in domains)], rows)
    counted = ", ".join(f"{domain.count} images of {domain.name}" for domain in domains)
    _print_footer(evaluation, subspace, marks, counted)


def _print_footer(evaluation: Evaluation, subspace: Subspace, marks: Marks, images: str) -> None:
    """Print what was measured on, and what the marks mean."""
    count, data = evaluation.calibration["count"], evaluation.calibration["data"]
    calibration = "the sources' own statistics" if count is None else f"{count} images of {data}"
    click.echo(f"{images}; ensembles average {evaluation.aggregate}; BatchNorm from {calibration}")
    if footer := marks.footer(subspace):
        click.echo(footer)


def print_corruptions(evaluation: Evaluation) -> None:
    """Print a row for each corruption: accuracy at each alpha, and relative changes."""
    from subspace_serve.space.place import place_text

    columns = [place_text(point.alpha) for point in evaluation.points]
    columns += ["baseline"] if evaluation.baseline is not None else []

    def cells(measured: ImageSet, value: Callable[[Result], float | None]) -> list[str]:
        results = [*measured.points, *([measured.baseline] if measured.baseline is not None else [])]
        return [percent(value(result) or 0.0) for result in results]

    named = [
        (entry.corruption + (f":{entry.severity}" if entry.severity else ""), entry) for entry in evaluation.corruptions
    ]
    click.echo("\nAccuracy % on corrupted images, by alpha:")
    rows = [[name, *cells(entry, lambda result: result.accuracy)] for name, entry in [("clean", evaluation), *named]]
    print_table(["corruption", *columns], rows)
    click.echo("\nRelative change of accuracy from clean to corrupted, (b - a)/a, in %:")
    rows = [[name, *cells(entry, lambda result: result.relative_change)] for name, entry in named]
    print_table(["corruption", *columns], rows)
    errors = evaluation.mean_corruption_error
    if errors is None:
        return
    click.echo("\nMean corruption error, in %:")
    rows = [["error", *map(percent, errors.points)]]
    rows[0] += [percent(errors.baseline)] if errors.baseline is not None else []
    if errors.normalised is not None:
        rows.append(["relative to the baseline", *map(percent, errors.normalised), percent(1)])
    print_table(["", *columns], rows)
