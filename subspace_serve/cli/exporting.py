"""The commands that write networks: `collapse`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from subspace_serve.cli.output import json_option, print_table, progress_line, write_json
from subspace_serve.cli.run import OpenRun, run_options

ALPHA_HELP = "0.5, 0.2,0.3,0.5 (simplex), midpoint, endpoints, endpoint:0, best, best:NAME, or NAME=one of these"


@click.command()
@run_options
@click.option("--alpha", default="midpoint", show_default=True, metavar="SPEC", help=ALPHA_HELP + ".")
@click.option("--extrapolate", is_flag=True, help="Allow places a little outside a line.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="[default: RUN/NAME.safetensors]")
def collapse(run: Path, alpha: str, extrapolate: bool, out: Path | None, **options: Any) -> None:
    """Write one point as an ordinary state dict (safetensors), with recalibrated BatchNorm."""
    from subspace_serve.alpha import parse_alphas
    from subspace_serve.checkpoint import FILE_NAME, save_weights
    from subspace_serve.evaluate import describe_alpha, recalibrated

    opened = OpenRun(run, **options)
    request = parse_alphas([alpha], opened.subspace.geometry, opened.selections(), extrapolate=extrapolate)
    if len(request.points) > 1:
        raise click.UsageError(f"collapse writes one point; {alpha} names {len(request.points)}: collapse each")
    name, place = next(iter(request.points.items()))
    target = out or opened.folder / f"{name}.safetensors"
    if target.name == FILE_NAME:
        raise click.UsageError(f"{FILE_NAME} is the checkpoint's own name; choose another with --out")
    model = recalibrated(opened.subspace, place, opened.calibration, extrapolate=extrapolate)
    save_weights(
        model.state_dict(),
        target,
        {
            "architecture": opened.subspace.architecture.name,
            "alpha": describe_alpha(place),
            "checkpoint_sha256": opened.checkpoint_sha256,
        },
    )
    click.echo(f"{target}: {opened.subspace.architecture.name} at alpha {describe_alpha(place)}")


@click.command()
@run_options
@click.option(
    "--alpha",
    "alphas",
    multiple=True,
    metavar="SPEC",
    help=ALPHA_HELP + " (repeatable).  [default: midpoint and endpoints]",
)
@click.option("--extrapolate", is_flag=True, help="Allow places a little outside a line.")
@click.option(
    "--ensemble",
    "ensembles",
    multiple=True,
    metavar="NAME=POINT,POINT…",
    help="Name an ensemble of exported points (repeatable).",
)
@click.option(
    "--aggregate",
    type=click.Choice(["probabilities", "logits"]),
    default="probabilities",
    show_default=True,
    help="What ensembles average.",
)
@click.option(
    "--default",
    "default",
    metavar="NAME",
    help="The model that answers when none is named.  [default: the first point]",
)
@click.option(
    "--input",
    "input_dtype",
    type=click.Choice(["uint8", "float"]),
    default="uint8",
    show_default=True,
    help="uint8 pixels (N, H, W, C), or float32 (N, C, H, W) in [0, 1].",
)
@click.option("--opset", type=click.IntRange(20), default=20, show_default=True)
@click.option(
    "--evaluate/--no-evaluate",
    "evaluated",
    default=True,
    show_default=True,
    help="Record test metrics in the manifest.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="BUNDLE", help="[default: RUN/bundle]")
@json_option
def export(
    run: Path,
    alphas: tuple[str, ...],
    extrapolate: bool,
    ensembles: tuple[str, ...],
    aggregate: Any,
    default: str | None,
    input_dtype: str,
    opset: int,
    evaluated: bool,
    out: Path | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Collapse, recalibrate and export points as a verified ONNX bundle.

    Each graph is compared with torch on real images and each point's BatchNorm statistics with fresh ones; a bundle
    that fails is not written, and the old one stays.
    """
    import json

    from subspace_serve.alpha import parse_alphas
    from subspace_serve.evaluate import describe_alpha
    from subspace_serve.export import export_bundle

    opened = OpenRun(run, **options)
    request = parse_alphas(
        alphas or ("midpoint", "endpoints"), opened.subspace.geometry, opened.selections(), extrapolate=extrapolate
    )
    for text in ensembles:
        name, equals, members = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not NAME=POINT,POINT…", param_hint="--ensemble")
        request.add_ensemble(name, members.split(","))
    bundle = export_bundle(
        opened.subspace,
        out or opened.folder / "bundle",
        request.points,
        calibration=opened.calibration,
        examples=opened.data.test,
        labels=opened.labels,
        checkpoint_sha256=opened.checkpoint_sha256,
        ensembles=request.ensembles,
        aggregate=aggregate,
        default=default,
        evaluation=opened.data.test if evaluated else None,
        input_dtype=input_dtype,
        opset=opset,
        progress=progress_line,
    )
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    if json_file:
        write_json(manifest, json_file)
    if json_file == "-":
        return
    rows = []
    for name, entry in (manifest["points"] | manifest["ensembles"]).items():
        place = "+".join(entry["members"]) if "members" in entry else describe_alpha(request.points[name])
        accuracy = f"{100 * entry['metrics']['accuracy']:.2f}" if entry["metrics"] else "-"
        rows.append([name, place, accuracy])
    print_table(["model", "alpha or members", "test accuracy %"], rows)
    click.echo(f"bundle: {bundle} (default {manifest['default']})")


COMMANDS = {"collapse": collapse, "export": export}
