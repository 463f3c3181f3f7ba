"""The commands that look at a run: `inspect`, `evaluate`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.domains import domains_to_evaluate
from subspace_serve.cli.evaluation_tables import print_corruptions, print_domains, print_evaluation
from subspace_serve.cli.options import (
    LATEST_RUN,
    aggregate_option,
    calibrate_on_option,
    corruption_options,
    extrapolate_option,
    run_options,
)
from subspace_serve.cli.output import json_option, passing_progress, write_report
from subspace_serve.cli.recommending import described_use, recommended_candidates, recorded_use
from subspace_serve.cli.skeletons import open_run, with_skeleton
from subspace_serve.cli.usage import check_one_kind, check_places, check_recalibrates
from subspace_serve.run.baseline import Baseline, comparable_run
from subspace_serve.run.domains import clean_part, corrupted_domains
from subspace_serve.run.images import labelled_images
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.statistics import statistics_on, usual_statistics
from subspace_serve.space.alpha import SYNTAX

if TYPE_CHECKING:
    from subspace_serve.measure.networks import Candidate
    from subspace_serve.measure.results import Evaluation
    from subspace_serve.space.place import Alpha


@click.command()
@click.argument("run", type=click.Path(path_type=Path), default=LATEST_RUN)
@click.option("--arch", metavar="MODULE:FUNCTION", help="The run's own architecture, when it has one.")
@json_option
def inspect(run: Path, arch: str | None, json_file: str | None) -> None:
    """Show a run's geometry, architecture, recommended use, endpoint distances, training and hashes."""
    from subspace_serve.space.use import recommended_use

    opened = OpenRun(run, arch)
    subspace = opened.subspace
    document: dict[str, Any] = {
        "checkpoint": str(opened.file),
        "sha256": opened.checkpoint_sha256,
        "geometry": {"name": subspace.geometry.name, "endpoints": subspace.geometry.endpoints},
        "architecture": subspace.architecture.to_json(),
        "parameters": sum(array.size for array in subspace.endpoints[0].values()),
        "use": list(recommended_use(subspace)),
        "endpoint_distances": subspace.endpoint_distances(),
        "selections": {name: entry.get("alpha", entry.get("members")) for name, entry in opened.selections().items()},
        "provenance": subspace.provenance,
    }
    if not write_report(document, json_file):
        return
    architecture, training = subspace.architecture, subspace.provenance.get("training", {})
    imported = subspace.provenance.get("import")
    rows = [
        ["checkpoint", str(opened.file)],
        ["sha256", opened.checkpoint_sha256],
        ["geometry", f"{subspace.geometry.name}, {subspace.geometry.endpoints} endpoint(s)"],
        ["architecture", f"{architecture.name}, {document['parameters']:,} parameters an endpoint"],
        ["input", f"{architecture.height}x{architecture.width}, {architecture.channels} channel(s)"],
        ["classes", str(architecture.classes)],
        ["data", str(training.get("data", "not recorded"))],
        *(_trained(training) if imported is None else _imported(imported)),
        ["recommended use", described_use(subspace)],
    ]
    for distance in document["endpoint_distances"]:
        i, j = distance["pair"]
        rows.append([f"endpoints {i}, {j}", f"L2 {distance['l2']:.3f}, cos^2 {distance['cosine_squared']:.5f}"])
    for name, alpha in document["selections"].items():
        rows.append([f"selection {name}", f"alpha {alpha}"])
    width = max(len(row[0]) for row in rows)
    for name, value in rows:
        click.echo(f"{name.ljust(width)}  {value}")


def _trained(training: dict[str, Any]) -> list[list[str]]:
    # An ensemble's members are trained one after another.
    planned = training.get("planned_epochs", training.get("epochs", "?"))
    return [
        ["epochs", f"{training.get('finished_epochs', '?')} of {planned}"],
        ["settings", ", ".join(f"{key} {training[key]}" for key in _SETTINGS if key in training)],
    ]


def _imported(record: dict[str, Any]) -> list[list[str]]:
    from subspace_serve.cli.barriers import barrier_text
    from subspace_serve.measure.barrier import Barrier

    rows = [["imported", member["name"]] for member in record["members"]]
    if record["barrier"] is not None:
        rows.append(["between them", barrier_text(Barrier.from_json(record["barrier"]))])
    return rows


_SETTINGS = ("beta", "layerwise", "samples", "label_noise", "batch_size", "learning_rate", "seed")


@click.command()
@run_options
@click.option(
    "--data",
    "spec",
    default="test",
    show_default=True,
    metavar="SPEC",
    help="Labelled images: the run's own test, validation or train, or any data set.",
)
@click.option(
    "--val-data",
    "specs",
    multiple=True,
    metavar="NAME=SPEC",
    help="Labelled images of one of several domains instead of --data (repeatable): the same networks on each of them.",
)
@click.option(
    "--alpha", "alphas", multiple=True, metavar="SPEC", help=f"Places instead of a grid (repeatable): {SYNTAX}."
)
@click.option("--points", type=click.IntRange(2), default=11, show_default=True, help="Places of the grid.")
@aggregate_option()
@extrapolate_option
@corruption_options
@calibrate_on_option("the run's training images; in a bundle a domain also goes by its name")
@click.option("--baseline", type=click.Path(path_type=Path), metavar="RUN", help="A standard network to compare with.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw accuracy and ECE (.png or .svg); with corruptions also FILE-corruptions, with a baseline "
    "FILE-relative-change. With --val-data accuracy on each domain, and on the first against the others.",
)
@json_option
def evaluate(
    run: Path,
    spec: str,
    specs: tuple[str, ...],
    alphas: tuple[str, ...],
    points: int,
    aggregate: Any,
    extrapolate: bool,
    corruptions: tuple[str, ...],
    severities: tuple[int, ...],
    preset: str | None,
    calibrate_on: str | None,
    baseline: Path | None,
    plot: Path | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Measure accuracy, NLL, ECE and Brier score along a subspace, on clean and corrupted images or several domains.

    On a line or curve each place stands alone and as an ensemble with its opposite, P(alpha) with P(1 - alpha). What
    the run is recommended to be used as is marked, and without --alpha measured beside the grid.
    """
    from subspace_serve.measure.evaluation import default_alphas
    from subspace_serve.measure.evaluation import evaluate as measure
    from subspace_serve.show.plot import check_picture
    from subspace_serve.space.alpha import parse_alphas

    if specs:
        check_one_kind(corruptions, baseline)
    check_places(alphas, extrapolate)
    if plot is not None:
        check_picture(plot)
    opened = open_run(run, **options)
    geometry = opened.subspace.geometry
    places: list[Alpha] = default_alphas(geometry, points)
    named: dict[str, Candidate] = {}
    recommended = recommended_candidates(opened.subspace, aggregate)
    if alphas:
        request = parse_alphas(alphas, geometry, opened.selections(), extrapolate=extrapolate, aggregate=aggregate)
        places, recommended = list(request.points.values()), {}
        named = {name: request.placed(name) for name in request.ensembles}
        _say_other_calibrations(opened, request.selected.values(), calibrate_on)
    corrupted = corrupted_domains(opened, spec, corruptions, severities, preset) if corruptions else []
    domains = domains_to_evaluate(opened, specs)
    if domains:
        clean, images = domains[0].record["data"], domains[0].images
    else:
        clean = clean_part(opened, spec) if corruptions else spec
        images = labelled_images(opened, clean)
    statistics = statistics_on(opened, calibrate_on) if calibrate_on else usual_statistics(opened)
    standard = None
    if baseline is not None:
        standard = Baseline.of(with_skeleton(comparable_run(opened, baseline)), calibrate_on)
    check_recalibrates(statistics, *([standard.statistics] if standard else []))
    with passing_progress() as say:
        evaluation = measure(
            opened.network,
            images,
            calibration=statistics,
            alphas=places,
            named=named,
            recommended=recommended,
            aggregate=aggregate,
            extrapolate=extrapolate,
            corrupted=corrupted,
            domains=domains,
            progress=say,
        )
    if standard is not None:
        evaluation = standard.beside(evaluation, images, corrupted)
    evaluation = replace(
        evaluation, data=clean, checkpoint_sha256=opened.checkpoint_sha256, use=recorded_use(opened.subspace)
    )
    words = write_report(evaluation.to_json(), json_file)
    if words:
        (print_domains if domains else print_evaluation)(evaluation, opened.subspace)
        if corrupted:
            print_corruptions(evaluation)
    if plot is not None:
        for picture in _draw(evaluation, plot):
            click.echo(f"plot: {picture}", err=not words)


def _say_other_calibrations(run: OpenRun, selected: Iterable[str], calibrate_on: str | None) -> None:
    """Say where a selected place was chosen with other BatchNorm statistics than it is evaluated with."""
    selections = run.selections()
    for name in dict.fromkeys(selected):  # the members of an ensemble come from one selection
        on = selections[name].get("calibration", {}).get("on", "default")
        if on not in ("default", calibrate_on):
            # In a bundle it is a set that can be named; a run's choice may be of half a domain, which cannot.
            there = "export writes it" if run.bundled is None else f"its point answers (--calibrate-on {on})"
            click.echo(
                f"  {name} was chosen with BatchNorm from {on}, as {there}; here it is evaluated with "
                f"{calibrate_on or 'training images'}",
                err=True,
            )


def _draw(evaluation: Evaluation, plot: Path) -> list[Path]:
    from subspace_serve.show.plot import plot_corruptions, plot_domains, plot_relative_change, plot_subspace

    if evaluation.domains:
        plot_domains(evaluation.domains, plot)
        return [plot]
    plot_subspace(evaluation, plot)
    pictures = [plot]
    if evaluation.corruptions:
        pictures.append(plot.with_stem(f"{plot.stem}-corruptions"))
        plot_corruptions(evaluation, pictures[-1])
    if evaluation.corruptions and evaluation.baseline is not None:
        pictures.append(plot.with_stem(f"{plot.stem}-relative-change"))
        plot_relative_change(evaluation, pictures[-1])
    return pictures


COMMANDS = {"inspect": inspect, "evaluate": evaluate}
