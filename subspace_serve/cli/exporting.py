"""The commands that write networks: `collapse`, `export`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from subspace_serve.cli.ensembles import SYNTAX as ENSEMBLE_SYNTAX
from subspace_serve.cli.ensembles import NamedEnsemble, read_ensembles
from subspace_serve.cli.export_images import calibrations_of, temperature_data_of
from subspace_serve.cli.options import run_options
from subspace_serve.cli.output import json_option, percent, print_table, progress_line, say_note, write_json
from subspace_serve.cli.skeletons import reference_of, with_skeleton
from subspace_serve.run.opened import OpenRun
from subspace_serve.space.alpha import SYNTAX

_calibrate_on_option = click.option(
    "--calibrate-on",
    metavar="SPEC",
    help="Recompute BatchNorm's statistics with these images, labelled or not, from where the model will run.  "
    "[default: as the point was selected, else the run's training images]",
)


@click.command()
@run_options
@click.option("--alpha", default="midpoint", show_default=True, metavar="SPEC", help=SYNTAX + ".")
@click.option("--extrapolate", is_flag=True, help="Allow places a little outside a line.")
@_calibrate_on_option
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="[default: RUN/NAME.safetensors]")
def collapse(
    run: Path, alpha: str, extrapolate: bool, calibrate_on: str | None, out: Path | None, **options: Any
) -> None:
    """Write one point as an ordinary state dict (safetensors), with recalibrated BatchNorm."""
    from subspace_serve.space.alpha import parse_alphas
    from subspace_serve.space.checkpoint import FILE_NAME, save_weights
    from subspace_serve.space.place import place_text
    from trainer.modules import as_module

    opened = with_skeleton(OpenRun(run, **options))
    say_note(opened.note)
    request = parse_alphas([alpha], opened.subspace.geometry, opened.selections(), extrapolate=extrapolate)
    if len(request.points) > 1:
        places = ", ".join(place_text(place) for place in request.points.values())
        raise click.UsageError(f"collapse writes one point; {alpha} is the places {places}: collapse each")
    name, place = next(iter(request.points.items()))
    target = out or opened.folder / f"{name}.safetensors"
    if target.name == FILE_NAME:
        raise click.UsageError(f"{FILE_NAME} is the checkpoint's own name; choose another with --out")
    default, calibrations = calibrations_of(opened, request, calibrate_on)
    calibration = calibrations.get(name, default)
    # A selected place may lie outside; it was allowed to when it was selected.
    model = as_module(opened.subspace, place, calibration, extrapolate=True, architecture=opened.arch)
    save_weights(
        {name: tensor.numpy() for name, tensor in model.state_dict().items()},
        target,
        {
            "architecture": opened.subspace.architecture.name,
            "alpha": place_text(place),
            "calibration": calibration.name,
            "checkpoint_sha256": opened.checkpoint_sha256,
        },
    )
    click.echo(f"{target}: {opened.subspace.architecture.name} at alpha {place_text(place)}")


@click.command()
@run_options
@click.option(
    "--alpha",
    "alphas",
    multiple=True,
    metavar="SPEC",
    help=SYNTAX + " (repeatable).  [default: the run's recommended use, or midpoint and endpoints]",
)
@click.option("--extrapolate", is_flag=True, help="Allow places a little outside a line.")
@_calibrate_on_option
@click.option(
    "--ensemble",
    "ensembles",
    multiple=True,
    metavar="NAME=POINT[:WEIGHT],…",
    callback=read_ensembles,
    help=f"Name an ensemble of exported points: {ENSEMBLE_SYNTAX} (repeatable).",
)
@click.option(
    "--aggregate",
    type=click.Choice(["probabilities", "logits"]),
    default="probabilities",
    show_default=True,
    help="What ensembles average; a selected one keeps its own.",
)
@click.option(
    "--default",
    "default",
    metavar="NAME",
    help="The model that answers when none is named.  [default: the first point, or the ensemble when the first "
    "--alpha is selected, random or recommended and is one]",
)
@click.option(
    "--input",
    "input_dtype",
    type=click.Choice(["uint8", "float"]),
    default="uint8",
    show_default=True,
    help="uint8 pixels (N, H, W, C), or float32 (N, C, H, W) in [0, 1].",
)
@click.option(
    "--evaluate/--no-evaluate",
    "evaluated",
    default=True,
    show_default=True,
    help="Record test metrics in the manifest.",
)
@click.option(
    "--temperature",
    "fit_temperatures",
    is_flag=True,
    help="Fit a temperature for each point and each ensemble, so that they are as sure as they are right.",
)
@click.option(
    "--temperature-data",
    metavar="SPEC",
    help="Labelled images for --temperature, one half to fit on and one to report on; never the test set.  "
    "[default: what a model was selected on, else validation]",
)
@click.option(
    "--layout",
    type=click.Choice(["bundle", "triton"]),
    default="bundle",
    show_default=True,
    help="What is written: a bundle for `serve`, or a model repository for the Triton Inference Server.",
)
@click.option(
    "--model-version",
    type=click.IntRange(1),
    metavar="N",
    help="Triton: add this version to the repository that is there.  [default: replace it whole, with version 1]",
)
@click.option(
    "--max-batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Triton: images that it may put into one batch.  [default: 64]",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="[default: RUN/bundle, or RUN/triton]")
@json_option
def export(
    run: Path,
    alphas: tuple[str, ...],
    extrapolate: bool,
    calibrate_on: str | None,
    ensembles: list[NamedEnsemble],
    aggregate: Any,
    default: str | None,
    input_dtype: Any,
    evaluated: bool,
    fit_temperatures: bool,
    temperature_data: str | None,
    layout: str,
    model_version: int | None,
    max_batch_size: int | None,
    out: Path | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Collapse, recalibrate and export points as a verified ONNX bundle, or as a Triton model repository.

    Each graph is compared on real images with torch, or where that is not installed with the run's skeleton and the
    answers that training left, and each point's BatchNorm statistics with fresh ones; a bundle that fails is not
    written, and the old one stays. For Triton each ensemble becomes one graph, compared with the
    answers of the bundle's service.
    """
    import json

    from subspace_serve.bundle import Bundle
    from subspace_serve.export import export_bundle
    from subspace_serve.space.alpha import parse_alphas
    from subspace_serve.space.place import place_text
    from subspace_serve.space.use import recommended_use

    if temperature_data is not None and not fit_temperatures:
        raise click.UsageError("--temperature-data says on what --temperature is fitted; give both")
    if layout != "triton" and (model_version is not None or max_batch_size is not None):
        raise click.UsageError("--model-version and --max-batch-size belong to --layout triton")
    opened = with_skeleton(OpenRun(run, **options))
    say_note(opened.note)
    target = out or opened.folder / layout
    if layout == "triton":
        from subspace_serve.deploy.triton import MAX_BATCH_SIZE, check_target, write_triton_repository

        check_target(target, model_version)  # before the work, too
    geometry = opened.subspace.geometry
    specifications = alphas or recommended_use(opened.subspace)
    request = parse_alphas(specifications, geometry, opened.selections(), extrapolate=extrapolate or not alphas)
    if default is None:
        first = parse_alphas(specifications[:1], geometry, opened.selections(), extrapolate=extrapolate or not alphas)
        # Who selected or drew an ensemble, or takes the recommended one, wants it to answer, and not the first of its
        # members. Where `endpoints` was typed its first point answers, as it always has.
        typed_ends = bool(alphas) and alphas[0].rpartition("=")[2].strip() == "endpoints"
        default = None if typed_ends else next(iter(first.ensembles), None)
    for name, members, weights in ensembles:
        request.add_ensemble(name, members, weights)
    temperature, temperatures = (
        temperature_data_of(opened, request, temperature_data) if fit_temperatures else (None, None)
    )
    calibration, calibrations = calibrations_of(opened, request, calibrate_on)
    with _bundle_folder(target, layout) as folder:
        export_bundle(
            opened.subspace,
            folder,
            request.points,
            network=opened.network,
            calibration=calibration,
            calibrations=calibrations,
            examples=opened.data.test,
            labels=opened.labels,
            checkpoint_sha256=opened.checkpoint_sha256,
            ensembles=request.ensembles,
            aggregate=aggregate,
            default=default,
            evaluation=opened.data.test if evaluated else None,
            temperature=temperature,
            temperatures=temperatures,
            input_dtype=input_dtype,
            reference=reference_of(opened),
            progress=progress_line,
        )
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if layout == "triton":
            write_triton_repository(
                Bundle.open(folder),
                target,
                max_batch_size=max_batch_size or MAX_BATCH_SIZE,
                version=model_version,
                progress=progress_line,
            )
    if json_file:
        write_json(manifest, json_file)
    if json_file == "-":
        return
    models = manifest["points"] | manifest["ensembles"]
    rows = []
    for name, entry in models.items():
        place = _mixture(entry) if "members" in entry else place_text(request.points[name])
        accuracy = percent(entry["metrics"]["accuracy"]) if entry["metrics"] else "-"
        rows.append([name, place, accuracy])
    print_table(["model", "alpha or members", "test accuracy %"], rows)
    if fit_temperatures:
        _print_temperatures(models)
    if layout == "triton":
        click.echo(f"Triton model repository: {target} (version {model_version or 1} of {len(models)} models)")
    else:
        click.echo(f"bundle: {target} (default {manifest['default']})")


@contextlib.contextmanager
def _bundle_folder(target: Path, layout: str) -> Iterator[Path]:
    """Yield where the bundle is written: for Triton it is only a step on the way."""
    if layout == "bundle":
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="subspace-serve-") as folder:
        yield Path(folder) / "bundle"


def _mixture(ensemble: dict[str, Any]) -> str:
    """Return an ensemble's members, with their weights where they differ."""
    if len(set(ensemble["weights"])) == 1:
        return "+".join(ensemble["members"])
    return "+".join(f"{name}:{weight:g}" for name, weight in zip(ensemble["members"], ensemble["weights"], strict=True))


def _print_temperatures(models: dict[str, Any]) -> None:
    rows = []
    for name, entry in models.items():
        fit = entry["temperature_fit"]
        before, after = fit["before"], fit["after"]
        rows.append(
            [
                name,
                f"{entry['temperature']:.3f}" + (" (open)" if fit["at_bound"] else ""),
                *(f"{part['nll']:.4f}" for part in (before, after)),
                *(percent(part["ece"]) for part in (before, after)),
                f"{fit['count']} of {fit['data']}",
                str(fit["reported_on"]),
            ]
        )
    header = ["model", "temperature", "NLL before", "after", "ECE % before", "after", "fitted on", "reported on others"]
    print_table(header, rows)
    if any("(open)" in row[1] for row in rows):
        click.echo("(open): its images leave the temperature open, and it is chosen on the side of doubt; give more")


COMMANDS = {"collapse": collapse, "export": export}
