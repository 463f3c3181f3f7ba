"""The commands that look at a run: `inspect`, `evaluate`, `select`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from subspace_serve.cli.output import json_option, percent, print_table, progress_line, write_json
from subspace_serve.cli.run import LATEST_RUN, OpenRun, run_options


@click.command()
@click.argument("run", type=click.Path(path_type=Path), default=LATEST_RUN)
@click.option("--arch", metavar="MODULE:FUNCTION", help="The run's own architecture, when it has one.")
@json_option
def inspect(run: Path, arch: str | None, json_file: str | None) -> None:
    """Show a run's geometry, architecture, endpoint distances, training and hashes."""
    from subspace_serve.subspace import endpoint_distances

    opened = OpenRun(run, arch)
    subspace = opened.subspace
    document: dict[str, Any] = {
        "checkpoint": str(opened.file),
        "sha256": opened.checkpoint_sha256,
        "geometry": {"name": subspace.geometry.name, "endpoints": subspace.geometry.endpoints},
        "architecture": subspace.architecture.to_json(),
        "parameters": sum(tensor.numel() for tensor in subspace.endpoints[0].values()),
        "endpoint_distances": endpoint_distances(subspace.endpoints),
        "selections": {name: entry["alpha"] for name, entry in opened.selections().items()},
        "provenance": subspace.provenance,
    }
    if json_file:
        write_json(document, json_file)
    if json_file == "-":
        return
    architecture, training = subspace.architecture, subspace.provenance.get("training", {})
    rows = [
        ["checkpoint", str(opened.file)],
        ["sha256", opened.checkpoint_sha256],
        ["geometry", f"{subspace.geometry.name}, {subspace.geometry.endpoints} endpoint(s)"],
        ["architecture", f"{architecture.name}, {document['parameters']:,} parameters an endpoint"],
        ["input", f"{architecture.height}x{architecture.width}, {architecture.channels} channel(s)"],
        ["classes", str(architecture.classes)],
        ["data", str(training.get("data", "not recorded"))],
        ["epochs", f"{training.get('finished_epochs', '?')} of {training.get('epochs', '?')}"],
        ["settings", ", ".join(f"{key} {training[key]}" for key in _SETTINGS if key in training)],
    ]
    for distance in document["endpoint_distances"]:
        i, j = distance["pair"]
        rows.append([f"endpoints {i}, {j}", f"L2 {distance['l2']:.3f}, cos^2 {distance['cosine_squared']:.5f}"])
    for name, alpha in document["selections"].items():
        rows.append([f"selection {name}", f"alpha {alpha}"])
    width = max(len(row[0]) for row in rows)
    for name, value in rows:
        click.echo(f"{name.ljust(width)}  {value}")


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
@click.option("--alpha", "alphas", multiple=True, metavar="SPEC", help="Places (repeatable) instead of a grid.")
@click.option("--points", type=click.IntRange(2), default=11, show_default=True, help="Places of the grid.")
@click.option(
    "--aggregate",
    type=click.Choice(["probabilities", "logits"]),
    default="probabilities",
    show_default=True,
    help="What ensembles average.",
)
@click.option("--extrapolate", is_flag=True, help="Allow places a little outside a line.")
@click.option("--baseline", type=click.Path(path_type=Path), metavar="RUN", help="A standard network to compare with.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw accuracy and ECE (.png or .svg).")
@json_option
def evaluate(
    run: Path,
    spec: str,
    alphas: tuple[str, ...],
    points: int,
    aggregate: str,
    extrapolate: bool,
    baseline: Path | None,
    plot: Path | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Measure accuracy, NLL, ECE and Brier score along a subspace.

    On a line or curve each place stands alone and as an ensemble with its opposite, P(alpha) with P(1 - alpha).
    """
    from subspace_serve.alpha import parse_alphas
    from subspace_serve.evaluate import default_alphas
    from subspace_serve.evaluate import evaluate as measure

    opened = OpenRun(run, **options)
    geometry = opened.subspace.geometry
    if alphas:
        request = parse_alphas(alphas, geometry, opened.selections(), extrapolate=extrapolate)
        places = list(request.points.values())
    else:
        places = default_alphas(geometry, points)
    document = measure(
        opened.subspace,
        opened.images(spec),
        preprocessing=opened.preprocessing,
        calibration=opened.calibration,
        alphas=places,
        aggregate=aggregate,
        extrapolate=extrapolate,
        progress=progress_line,
    )
    document["data"] = spec
    if baseline is not None:
        document["baseline"] = _baseline(opened, OpenRun(baseline, **options), spec)
    if json_file:
        write_json(document, json_file)
    if json_file != "-":
        _print_evaluation(document)
    if plot is not None:
        from subspace_serve.plot import plot_subspace

        plot_subspace(document, plot, baseline=document.get("baseline"))
        click.echo(f"plot: {plot}", err=json_file == "-")


def _baseline(run: OpenRun, baseline: OpenRun, spec: str) -> dict[str, float]:
    """Return the metrics of a standard network on the same images."""
    from subspace_serve.errors import DataError
    from subspace_serve.evaluate import evaluate as measure

    if baseline.labels != run.labels:
        raise DataError(
            f"the baseline {baseline.path} was trained for other classes than {run.path}; compare like with like"
        )
    document = measure(
        baseline.subspace,
        run.images(spec),
        preprocessing=baseline.preprocessing,
        calibration=baseline.calibration,
        alphas=[baseline.subspace.geometry.midpoint],
    )
    return document["points"][0]["metrics"]


def _print_evaluation(document: dict[str, Any]) -> None:
    from subspace_serve.evaluate import describe_alpha

    has_pairs = any("ensemble" in point for point in document["points"])
    header = ["alpha", "accuracy %", "NLL", "ECE %", "Brier"]
    if has_pairs:
        header += ["with 1-alpha: accuracy %", "ECE %"]
    rows = []
    for point in document["points"]:
        row = [describe_alpha(point["alpha"]), *_cells(point["metrics"])]
        if has_pairs:
            row += [percent(point["ensemble"]["accuracy"]), percent(point["ensemble"]["ece"])]
        rows.append(row)
    padding = [""] * (len(header) - 5)
    if "endpoints_ensemble" in document:
        rows.append(["ensemble of the ends", *_cells(document["endpoints_ensemble"]["metrics"]), *padding])
    if "baseline" in document:
        rows.append(["baseline", *_cells(document["baseline"]), *padding])
    print_table(header, rows)
    click.echo(
        f"{document['count']} images of {document['data']}; ensembles average {document['aggregate']}; BatchNorm from "
        f"{document['calibration']['count']} images of {document['calibration']['data']}"
    )


def _cells(metrics: dict[str, float]) -> list[str]:
    return [percent(metrics["accuracy"]), f"{metrics['nll']:.4f}", percent(metrics["ece"]), f"{metrics['brier']:.4f}"]


@click.command()
@run_options
@click.option(
    "--val-data",
    "spec",
    default="validation",
    show_default=True,
    metavar="SPEC",
    help="Labelled images from where the model will run; never the test set.",
)
@click.option("--metric", type=click.Choice(["accuracy", "nll", "ece", "brier"]), default="accuracy", show_default=True)
@click.option("--points", type=click.IntRange(2), default=11, show_default=True, help="How fine the grid is.")
@click.option("--name", default="best", show_default=True, help="Store the choice under this name.")
@json_option
def select(run: Path, spec: str, metric: str, points: int, name: str, json_file: str | None, **options: Any) -> None:
    """Choose a place on one half of validation images, report it on the other half, and store it.

    `export --alpha best:NAME` then exports it.
    """
    from subspace_serve.alpha import NAME
    from subspace_serve.errors import DataError
    from subspace_serve.evaluate import describe_alpha
    from subspace_serve.select import select as choose
    from subspace_serve.select import store_selection

    if not NAME.fullmatch(name):
        raise click.BadParameter(f"{name!r}: use letters, digits, '.', '_' and '-'", param_hint="--name")
    opened = OpenRun(run, **options)
    if spec == "test" or spec.endswith(":test"):
        raise DataError("a place is never chosen on test images: what is chosen there cannot be reported there")
    opened.selections()
    selection = choose(
        opened.subspace,
        opened.images(spec),
        preprocessing=opened.preprocessing,
        calibration=opened.calibration,
        metric=metric,
        points=points,
        seed=options["seed"],
        progress=progress_line,
    ) | {"data": spec}
    file = store_selection(opened.folder, name, selection, opened.checkpoint_sha256)
    if json_file:
        write_json(selection, json_file)
    if json_file == "-":
        return
    print_table(
        ["on the reporting half", "alpha", "accuracy %", "NLL", "ECE %", "Brier"],
        [
            [name, describe_alpha(selection["alpha"]), *_cells(selection["reported"])],
            ["midpoint", describe_alpha(opened.subspace.geometry.midpoint), *_cells(selection["midpoint"])],
        ],
    )
    click.echo(
        f"chosen by {metric} on {selection['chosen_on']} images of {spec}, reported on {selection['reported_on']} "
        f"others; stored in {file}: export it with --alpha best{'' if name == 'best' else ':' + name}"
    )


COMMANDS = {"inspect": inspect, "evaluate": evaluate, "select": select}
