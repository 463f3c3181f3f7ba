"""The options of `export`, and which of them contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from subspace_serve.cli.ensembles import SYNTAX as ENSEMBLE_SYNTAX
from subspace_serve.cli.ensembles import read_ensembles
from subspace_serve.cli.options import aggregate_option, calibrate_on_option, extrapolate_option, sets_method_option
from subspace_serve.packages import is_installed
from subspace_serve.space.alpha import SYNTAX

calibrate_points_on_option = calibrate_on_option("as the point was selected, else the run's training images")


def export_options(command: Callable) -> Callable:
    """Add the options that say what is exported, on which images it is proven, and as what it is written."""
    listed = (
        click.option(
            "--alpha",
            "alphas",
            multiple=True,
            metavar="SPEC",
            help=SYNTAX
            + " (repeatable). A standard network is one point, under the first of the names midpoint, endpoint:0 "
            "and endpoints.  [default: the run's recommended use, or midpoint and endpoints]",
        ),
        extrapolate_option,
        calibrate_points_on_option,
        click.option(
            "--ensemble",
            "ensembles",
            multiple=True,
            metavar="NAME=POINT[:WEIGHT],…",
            callback=read_ensembles,
            help=f"Name an ensemble of exported points: {ENSEMBLE_SYNTAX} (repeatable).",
        ),
        aggregate_option("; a selected one keeps its own"),
        click.option(
            "--default",
            "default",
            metavar="NAME",
            help="The model that answers when none is named.  [default: the first --alpha, point or ensemble]",
        ),
        click.option(
            "--input",
            "input_dtype",
            type=click.Choice(["uint8", "float"]),
            default="uint8",
            show_default=True,
            help="uint8 pixels (N, H, W, C), or float32 (N, C, H, W) in [0, 1].",
        ),
        click.option(
            "--evaluate/--no-evaluate",
            "evaluated",
            default=True,
            show_default=True,
            help="Record test metrics in the manifest.",
        ),
        click.option(
            "--temperature",
            "fit_temperatures",
            is_flag=True,
            help="Fit a temperature for each point and each ensemble, so that their confidence matches their accuracy.",
        ),
        click.option(
            "--temperature-data",
            metavar="SPEC",
            help="Labelled images for --temperature, one half to fit on and one to report on; never the test set.  "
            "[default: what a model was selected on, else validation]",
        ),
        click.option(
            "--sets/--no-sets",
            "with_sets",
            default=True,
            show_default=True,
            help="Keep what answers a request's `coverage` with prediction sets and its `max_risk` by abstaining, and "
            "what the drift alarm compares with, from images that chose nothing.",
        ),
        click.option(
            "--sets-data",
            metavar="SPEC",
            help="Labelled images for --sets; those that chose a place or fitted a temperature are left out. Never the "
            "test set.  [default: what a model was selected on, else validation]",
        ),
        sets_method_option,
        click.option(
            "--precision",
            "precisions",
            multiple=True,
            type=click.Choice(["fp16", "int8"]),
            help="Write each point and ensemble also in fewer bits, as NAME-fp16 or NAME-int8, gated on labelled "
            "images (repeatable).",
        ),
        click.option(
            "--max-drop",
            type=click.FloatRange(0, 100),
            default=0.5,
            show_default=True,
            metavar="POINTS",
            help="--precision: refuse a point that loses more points (hundredths) of accuracy than this.",
        ),
        click.option(
            "--gate-data",
            metavar="SPEC",
            help="--precision: labelled images for the gate; never the test set.  [default: validation]",
        ),
        click.option("--fused", is_flag=True, help="Write each ensemble also as one ONNX file, NAME.fused.onnx."),
        click.option(
            "--dynamic-alpha",
            is_flag=True,
            help="Write the subspace also as one ONNX file with the inputs `image` and `alpha`, dynamic.onnx.",
        ),
        click.option(
            "--points-only",
            is_flag=True,
            help="Leave the subspace out: the bundle answers at its points alone, and cannot be adapted.",
        ),
        click.option(
            "--layout",
            type=click.Choice(["bundle", "triton"]),
            default="bundle",
            show_default=True,
            help="What is written: a bundle for `serve`, or a model repository for the Triton Inference Server, which "
            "answers at the exported points alone.",
        ),
        click.option(
            "--model-version",
            type=click.IntRange(1),
            metavar="N",
            help="Triton: add this version to the repository that is there.  "
            "[default: replace it whole, with version 1]",
        ),
        click.option(
            "--max-batch-size",
            type=click.IntRange(1),
            metavar="N",
            help="Triton: images that it may put into one batch.  [default: 64]",
        ),
        click.option(
            "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="[default: RUN/bundle, or RUN/triton]"
        ),
        click.option(
            "--drop-domains",
            is_flag=True,
            help="Replace a bundle although `adapt` or `select` wrote domains into it, which are lost.",
        ),
    )
    for decorate in reversed(listed):  # help lists first what decorates last
        command = decorate(command)
    return command


def refuse_contradictions(given: Mapping[str, Any]) -> None:
    """Raise `UsageError` for an option of `export` that does nothing without another, or that another rules out."""
    triton = given["layout"] == "triton"
    if given["temperature_data"] is not None and not given["fit_temperatures"]:
        raise click.UsageError("--temperature-data says on what --temperature is fitted; give both")
    if given["sets_data"] is not None and not given["with_sets"]:
        raise click.UsageError("--sets-data says on what the sets of --sets are calibrated; leave out --no-sets")
    if triton and given["sets_data"] is not None:
        raise click.UsageError("Triton answers without prediction sets: leave out --sets-data, or take --layout bundle")
    if given["extrapolate"] and not given["alphas"]:
        raise click.UsageError("--extrapolate allows places outside a line; name them with --alpha")
    if not triton and (given["model_version"] is not None or given["max_batch_size"] is not None):
        raise click.UsageError("--model-version and --max-batch-size belong to --layout triton")
    if triton and given["drop_domains"]:
        raise click.UsageError("--drop-domains replaces a bundle: leave it out with --layout triton")
    if given["gate_data"] is not None and not given["precisions"]:
        raise click.UsageError("--gate-data says on what --precision is gated; give both")
    if triton and (given["fused"] or given["dynamic_alpha"]):
        raise click.UsageError(
            "a Triton repository holds every ensemble as one graph already, and no subspace: leave out --fused and "
            "--dynamic-alpha, or take --layout bundle"
        )
    if given["dynamic_alpha"] and given["points_only"]:
        raise click.UsageError("--dynamic-alpha is a graph of the subspace, which --points-only leaves out")
    if given["fused"] and not is_installed("onnx"):
        raise click.UsageError("--fused takes the package onnx: install subspace-serve[train]")
