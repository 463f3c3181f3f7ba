"""The command `import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.flags import architecture_arguments
from subspace_serve.cli.output import json_option, metric_cells, passing_progress, print_table, say_note, write_report

if TYPE_CHECKING:
    from trainer.foreign.importing import Description, Imported


ALIKE = 1e-4
"""A difference of NLL that is none."""


def _numbers(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not one number a channel, such as 0.485,0.456,0.406") from None


@click.command("import")
@click.argument("weights", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--arch",
    "name",
    required=True,
    metavar="NAME",
    help="The networks' architecture: resnet50, timm/resnet50, cresnet20-64, or your own MODULE:FUNCTION.",
)
@architecture_arguments
@click.option(
    "--subspace",
    "geometry",
    type=click.Choice(["line", "curve", "simplex"]),
    help="What they span; a curve's files are its two ends, then its bend.  [default: line of two, simplex of more]",
)
@click.option(
    "--data",
    "spec",
    metavar="SPEC",
    help="A data set of their classes, as train takes it: to recompute BatchNorm's statistics and to test with.",
)
@click.option("--validation", type=click.FloatRange(0, 0.9), help="As of train, of --data.  [default: 0.1]")
@click.option("--data-seed", type=click.IntRange(0), help="As of train, of --data.  [default: 0]")
@click.option("--image-size", type=click.IntRange(1), help="Side to which the data's images are brought.")
@click.option("--download", is_flag=True, help="Download CIFAR, MNIST or Fashion-MNIST where they are missing.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The classes' names, one per line, in the networks' order.  [default: the data's, else those recorded for "
    "published weights of the architecture]",
)
@click.option(
    "--normalisation",
    type=click.Choice(["data", "published"]),
    help="Of the data, or as torchvision or timm records it for their weights.  [default: data, where there is some]",
)
@click.option(
    "--mean", callback=_numbers, metavar="NUMBERS", help="Of pixels in [0, 1], one per channel: 0.485,0.456,…"
)
@click.option("--std", callback=_numbers, metavar="NUMBERS", help="The standard deviations, likewise.")
@click.option("--height", type=click.IntRange(1), help="Of images, in pixels, without --data.")
@click.option("--width", type=click.IntRange(1), help="Of images, in pixels, without --data.  [default: the height]")
@click.option(
    "--channels",
    type=click.Choice(["1", "3"]),
    help="Of images; grey ones are repeated.  [default: the data's own, else 3]",
)
@click.option("--key", metavar="PLACE", help="Where the files have the state dict, such as ema or checkpoint.model.")
@click.option("--cast", type=click.Choice(["float32"]), help="Convert weights of other floating-point types.")
@click.option(
    "--evaluate/--no-evaluate",
    "measured",
    default=True,
    show_default=True,
    help="Measure what lies between the networks, on validation images of --data.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="RUN", help="[default: runs/import-NAME]")
@click.option(
    "--overwrite", is_flag=True, help="Replace a run that is in the folder already, with all that lies there."
)
@json_option
def import_(
    weights: tuple[Path, ...],
    name: str,
    arguments: dict[str, Any],
    geometry: str | None,
    key: str | None,
    cast: str | None,
    measured: bool,
    out: Path | None,
    overwrite: bool,
    channels: str | None,
    json_file: str | None,
    **described: Any,
) -> None:
    """Make a run from two or more networks that were trained elsewhere, so that every command works on it.

    WEIGHTS are state dicts (.pt, .pth, .bin, .safetensors) of one architecture: fine-tuned twice, before and after
    fine-tuning, kept along a run; or one checkpoint of the published code of Learning Neural Network Subspaces. They
    are read without running any code. Writes runs/import-NAME/ and points runs/latest at it.
    """
    from trainer.foreign.describing import describe
    from trainer.foreign.importing import import_weights

    target = out or Path("runs") / f"import-{name.replace(':', '.').replace('/', '-')}"
    found = describe(name, arguments, channels=None if channels is None else int(channels), **described)
    say_note(found.note)
    with passing_progress() as say:
        imported = import_weights(
            weights,
            found,
            target,
            geometry=geometry,
            key=key,
            cast=cast is not None,
            measured=measured,
            overwrite=overwrite,
            progress=say,
        )
    subspace = imported.subspace
    document = {"run": str(target), "geometry": subspace.geometry.name, **subspace.provenance["import"]}
    if write_report(document, json_file):
        _print_import(imported, target, found)


def _print_import(imported: Imported, target: Path, described: Description) -> None:
    from subspace_serve.cli.barriers import print_barrier

    for note in dict.fromkeys(note for member in imported.members for note in member.notes):
        said_of = [member.name for member in imported.members if note in member.notes]
        click.echo(f"{'all' if len(said_of) == len(imported.members) else ', '.join(said_of)}: {note}")
    for file, others in imported.others.items():
        click.echo(f"{file} also has {', '.join(others)}, which --key takes")
    if imported.barrier is not None:
        print_barrier(imported.barrier)
    if imported.statistics is not None:
        _print_statistics(imported.statistics)
    geometry = imported.subspace.geometry
    click.echo(f"{geometry.name} of {geometry.endpoints} networks: {target}")
    if described.data is None:
        click.echo("without a data set: name images with --data and --calibrate-on, or import again with --data")


def _print_statistics(found: dict[str, list[dict[str, float]]]) -> None:
    rows = [
        [f"{index}, {title}", *metric_cells(metrics)]
        for index, pair in enumerate(zip(found["own"], found["recomputed"], strict=True))
        for title, metrics in zip(("own", "recomputed"), pair, strict=True)
    ]
    print_table(["BatchNorm's statistics of source", "accuracy %", "NLL", "ECE %", "Brier"], rows)
    own, recomputed = (sum(entry["nll"] for entry in found[name]) / len(found[name]) for name in ("own", "recomputed"))
    if abs(own - recomputed) < ALIKE:
        verdict = "their own statistics and recomputed ones answer alike"
    else:
        verdict = f"{'their own' if own < recomputed else 'recomputed'} statistics answer better, by likelihood"
    click.echo(f"at the ends {verdict}; --calibrate-on sources takes their own, at the ends alone")


COMMANDS = {"import": import_}
