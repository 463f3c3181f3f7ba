"""The commands that write networks: `collapse`, `export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.ensembles import SYNTAX as ENSEMBLE_SYNTAX
from subspace_serve.cli.ensembles import read_ensembles
from subspace_serve.cli.export_images import calibrations_of, knot_images_of, temperature_data_of
from subspace_serve.cli.gate_images import gate_data_of
from subspace_serve.cli.options import (
    aggregate_option,
    calibrate_on_option,
    extrapolate_option,
    run_options,
    sets_method_option,
)
from subspace_serve.cli.output import json_option, percent, print_table, progress_line, write_report
from subspace_serve.cli.sets_images import sets_data_of
from subspace_serve.cli.sets_tables import print_abstention, print_sets
from subspace_serve.cli.skeletons import open_run, origin_of
from subspace_serve.packages import is_installed
from subspace_serve.space.alpha import SYNTAX

if TYPE_CHECKING:
    from subspace_serve.bundle import Bundle
    from subspace_serve.bundle import Ensemble as BundleEnsemble
    from subspace_serve.space.ensemble import Ensemble

_calibrate_on_option = calibrate_on_option("as the point was selected, else the run's training images")


@click.command()
@run_options
@click.option("--alpha", default="midpoint", show_default=True, metavar="SPEC", help=SYNTAX + ".")
@extrapolate_option
@_calibrate_on_option
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="[default: RUN/NAME.safetensors]")
def collapse(
    run: Path, alpha: str, extrapolate: bool, calibrate_on: str | None, out: Path | None, **options: Any
) -> None:
    """Write one point as an ordinary state dict (safetensors), with recalibrated BatchNorm."""
    from subspace_serve.space.alpha import parse_alphas
    from subspace_serve.space.checkpoint import FILE_NAME, save_weights
    from subspace_serve.space.place import place_text
    from trainer.modules import collapsed, with_statistics

    opened = open_run(run, **options)
    request = parse_alphas([alpha], opened.subspace.geometry, opened.selections(), extrapolate=extrapolate)
    if len(request.points) > 1:
        places = ", ".join(place_text(place) for place in request.points.values())
        raise click.UsageError(f"collapse writes one point; {alpha} is the places {places}: collapse each")
    name, place = next(iter(request.points.items()))
    target = out or opened.folder / f"{name}.safetensors"
    if target.name == FILE_NAME:
        raise click.UsageError(f"{FILE_NAME} is the checkpoint's own name; choose another with --out")
    calibration = calibrations_of(opened, request, calibrate_on)[name]
    # A selected place may lie outside the line, if that was allowed when it was selected.
    model = collapsed(opened.subspace, place, extrapolate=True, architecture=opened.arch)
    weights = opened.network.weights(place, extrapolate=True)
    statistics = calibration.statistics(opened.network, place, weights)
    with_statistics(model, opened.network.skeleton, statistics)
    save_weights(
        {name: tensor.numpy() for name, tensor in model.state_dict().items()},
        target,
        {
            "architecture": opened.subspace.architecture.name,
            "alpha": place_text(place),
            "calibration": calibration.to_json()["data"],
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
    help=SYNTAX + " (repeatable). A standard network is one point, under the first of the names midpoint, endpoint:0 "
    "and endpoints.  [default: the run's recommended use, or midpoint and endpoints]",
)
@extrapolate_option
@_calibrate_on_option
@click.option(
    "--ensemble",
    "ensembles",
    multiple=True,
    metavar="NAME=POINT[:WEIGHT],…",
    callback=read_ensembles,
    help=f"Name an ensemble of exported points: {ENSEMBLE_SYNTAX} (repeatable).",
)
@aggregate_option("; a selected one keeps its own")
@click.option(
    "--default",
    "default",
    metavar="NAME",
    help="The model that answers when none is named.  [default: the first --alpha, point or ensemble]",
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
    help="Fit a temperature for each point and each ensemble, so that their confidence matches their accuracy.",
)
@click.option(
    "--temperature-data",
    metavar="SPEC",
    help="Labelled images for --temperature, one half to fit on and one to report on; never the test set.  "
    "[default: what a model was selected on, else validation]",
)
@click.option(
    "--sets/--no-sets",
    "with_sets",
    default=True,
    show_default=True,
    help="Keep what answers a request's `coverage` with prediction sets and its `max_risk` by abstaining, and what the "
    "drift alarm compares with, from images that chose nothing.",
)
@click.option(
    "--sets-data",
    metavar="SPEC",
    help="Labelled images for --sets; those that chose a place or fitted a temperature are left out. Never the test "
    "set.  [default: what a model was selected on, else validation]",
)
@sets_method_option
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp16", "int8"]),
    help="Write each point and ensemble also in fewer bits, as NAME-fp16 or NAME-int8, gated on labelled images "
    "(repeatable).",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="--precision: refuse a point that loses more points (hundredths) of accuracy than this.",
)
@click.option(
    "--gate-data",
    metavar="SPEC",
    help="--precision: labelled images for the gate; never the test set.  [default: validation]",
)
@click.option("--fused", is_flag=True, help="Write each ensemble also as one ONNX file, NAME.fused.onnx.")
@click.option(
    "--dynamic-alpha",
    is_flag=True,
    help="Write the subspace also as one ONNX file with the inputs `image` and `alpha`, dynamic.onnx.",
)
@click.option(
    "--points-only",
    is_flag=True,
    help="Leave the subspace out: the bundle answers at its points alone, and cannot be adapted.",
)
@click.option(
    "--layout",
    type=click.Choice(["bundle", "triton"]),
    default="bundle",
    show_default=True,
    help="What is written: a bundle for `serve`, or a model repository for the Triton Inference Server, which answers "
    "at the exported points alone.",
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
    ensembles: list[tuple[str, Ensemble[str]]],
    aggregate: Any,
    default: str | None,
    input_dtype: Any,
    evaluated: bool,
    fit_temperatures: bool,
    temperature_data: str | None,
    with_sets: bool,
    sets_data: str | None,
    sets_method: Any,
    precisions: tuple[Any, ...],
    max_drop: float,
    gate_data: str | None,
    fused: bool,
    dynamic_alpha: bool,
    points_only: bool,
    layout: str,
    model_version: int | None,
    max_batch_size: int | None,
    out: Path | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Collapse, recalibrate and export points as a verified ONNX bundle, or as a Triton model repository.

    Each graph is compared on real images with torch, or where that is not installed with the run's skeleton, which must
    reproduce the answers that training left. Each point's BatchNorm statistics are checked on other images. A bundle
    that fails is not written, and the old one stays. For Triton each ensemble becomes one graph, compared with the
    answers of the bundle's service; requests there cannot name another place or a domain, so give each with --alpha.
    """
    from subspace_serve.bundle import Bundle
    from subspace_serve.bundle.writer import check_target
    from subspace_serve.export import BundlePlan, export_bundle
    from subspace_serve.files import temporary_folder
    from subspace_serve.space.alpha import parse_alphas
    from subspace_serve.space.use import recommended_use

    if temperature_data is not None and not fit_temperatures:
        raise click.UsageError("--temperature-data says on what --temperature is fitted; give both")
    if sets_data is not None and not with_sets:
        raise click.UsageError("--sets-data says on what the sets of --sets are calibrated; leave out --no-sets")
    if layout != "triton" and (model_version is not None or max_batch_size is not None):
        raise click.UsageError("--model-version and --max-batch-size belong to --layout triton")
    if gate_data is not None and not precisions:
        raise click.UsageError("--gate-data says on what --precision is gated; give both")
    if layout == "triton" and (fused or dynamic_alpha):
        raise click.UsageError(
            "a Triton repository holds every ensemble as one graph already, and no subspace: leave out --fused and "
            "--dynamic-alpha, or take --layout bundle"
        )
    if dynamic_alpha and points_only:
        raise click.UsageError("--dynamic-alpha is a graph of the subspace, which --points-only leaves out")
    if fused and not is_installed("onnx"):
        raise click.UsageError("--fused takes the package onnx: install subspace-serve[train]")
    opened = open_run(run, **options)
    target = out or opened.folder / layout
    if layout == "triton":
        from subspace_serve.deploy.triton import MAX_BATCH_SIZE, write_triton_repository
        from subspace_serve.deploy.triton import check_target as check_repository

        check_repository(target, model_version)
    else:
        check_target(target)
    request = parse_alphas(
        alphas or recommended_use(opened.subspace),
        opened.subspace.geometry,
        opened.selections(),
        extrapolate=extrapolate or not alphas,
        aggregate=aggregate,
    )
    for name, ensemble in ensembles:
        request.add_ensemble(name, replace(ensemble, aggregate=aggregate))
    calibrations = calibrations_of(opened, request, calibrate_on)
    temperatures = temperature_data_of(opened, request, temperature_data) if fit_temperatures else {}
    # Triton answers with tensors alone.
    with_sets = with_sets and layout == "bundle"
    plan = BundlePlan.of(
        request,
        calibrations,
        temperatures,
        sets_data_of(opened, request, sets_data, sets_method, temperatures, calibrations) if with_sets else {},
        # Who asks for fewer bits is answered in them.
        default=default or "-".join([request.models[0], *precisions[:1]]),
        evaluation=opened.data.test if evaluated and opened.has_data else None,
        input_type=input_dtype,
        subspace=None if points_only or layout == "triton" else knot_images_of(opened, calibrate_on),
        precisions=precisions,
        gate=gate_data_of(opened, gate_data, max_drop, calibrations) if precisions else None,
        fused=fused,
        dynamic=dynamic_alpha,
    )
    if layout == "bundle":
        bundle = Bundle.open(export_bundle(origin_of(opened), plan, target, progress=progress_line))
    else:
        with temporary_folder(target) as folder:
            bundle = Bundle.open(export_bundle(origin_of(opened), plan, folder / "bundle", progress=progress_line))
            write_triton_repository(
                bundle,
                target,
                max_batch_size=max_batch_size or MAX_BATCH_SIZE,
                version=model_version,
                progress=progress_line,
            )
    if not write_report(bundle.manifest.model_dump(mode="json"), json_file):
        return
    _print_models(bundle)
    _print_gates(bundle)
    if fit_temperatures:
        _print_temperatures(bundle)
    print_sets({**bundle.points, **bundle.ensembles})
    print_abstention({**bundle.points, **bundle.ensembles})
    if layout == "triton":
        models = len(bundle.points) + len(bundle.ensembles)
        click.echo(f"Triton model repository: {target} (version {model_version or 1} of {models} models)")
    else:
        click.echo(f"bundle: {target} (default {bundle.default})")


def _print_models(bundle: Bundle) -> None:
    from subspace_serve.space.place import place_text

    def accuracy(metrics: dict[str, float]) -> str:
        return percent(metrics["accuracy"]) if metrics else "-"

    rows = [
        [name, "-" if point.alpha is None else place_text(point.alpha), accuracy(point.metrics)]
        for name, point in bundle.points.items()
    ]
    rows += [[name, _mixture(entry), accuracy(entry.metrics)] for name, entry in bundle.ensembles.items()]
    print_table(["model", "alpha or members", "test accuracy %"], rows)


def _print_gates(bundle: Bundle) -> None:
    rows = []
    for name, point in bundle.points.items():
        if point.reduction is None:
            continue
        gate = point.reduction.gate
        changes = (gate.reduced.accuracy - gate.float32.accuracy, gate.reduced.ece - gate.float32.ece)
        rows.append(
            [
                name,
                *(f"{100 * change:+.2f}" for change in changes),
                f"{gate.reduced.nll - gate.float32.nll:+.4f}",
                percent(gate.flips),
                f"{gate.images} of {gate.data}",
            ]
        )
    if rows:
        print_table(["in fewer bits", "accuracy, points", "ECE, points", "NLL", "flips %", "gated on"], rows)


def _mixture(ensemble: BundleEnsemble) -> str:
    """Return an ensemble's members, with their weights where they differ."""
    if len(set(ensemble.weights)) == 1:
        return "+".join(ensemble.members)
    return "+".join(f"{name}:{weight:g}" for name, weight in zip(ensemble.members, ensemble.weights, strict=True))


def _print_temperatures(bundle: Bundle) -> None:
    rows = []
    for name, entry in (bundle.points | bundle.ensembles).items():
        fit = entry.temperature_fit
        assert fit is not None
        rows.append(
            [
                name,
                f"{entry.temperature:.3f}" + (" (open)" if fit.at_bound else ""),
                *(f"{part.nll:.4f}" for part in (fit.before, fit.after)),
                *(percent(part.ece) for part in (fit.before, fit.after)),
                f"{fit.count} of {fit.data}",
                str(fit.reported_on),
            ]
        )
    header = ["model", "temperature", "NLL before", "after", "ECE % before", "after", "fitted on", "reported on others"]
    print_table(header, rows)
    if any("(open)" in row[1] for row in rows):
        click.echo("(open): its images leave the temperature open, and it is chosen on the side of doubt; give more")


COMMANDS = {"collapse": collapse, "export": export}
