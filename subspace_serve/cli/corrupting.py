"""The command `corrupt`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click

from subspace_serve.cli.output import json_option, progress_line, track, write_report

_ALL = "all"
_USUAL_SPLIT = "test"
_READERS_OF_PATHS = ("folder", "npz")
"""Specifications in which only the path names the data set."""


@click.command()
@click.option(
    "--data",
    metavar="SPEC",
    default="digits",
    show_default=True,
    help="What `train --data` takes, or any set with images of the split.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="[default: data/NAME[-SPLIT]-c]")
@click.option(
    "--corruption",
    "chosen",
    multiple=True,
    metavar="NAME",
    help="fog, or fog,snow, or all (repeatable).  [default: all]",
)
@click.option(
    "--severity", "severities", type=int, multiple=True, metavar="1-5", help="Repeatable.  [default: all five]"
)
@click.option(
    "--preset",
    type=click.Choice(["cifar", "tiny", "imagenet"]),
    help="The published table of strengths.  [default: by the images' size]",
)
@click.option(
    "--split",
    type=click.Choice(["test", "validation", "train"]),
    default=_USUAL_SPLIT,
    show_default=True,
    help="The part to corrupt, divided as `train` does.",
)
@click.option("--validation", type=float, default=0.1, show_default=True, help="As of `train`.")
@click.option("--data-seed", type=click.IntRange(0), default=0, show_default=True, help="As of `train`.")
@click.option("--image-size", type=click.IntRange(1), help="Side to which images are brought first.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of what is random in a corruption."
)
@click.option("--workers", type=click.IntRange(1), help="Threads that corrupt.  [default: one per processor]")
@click.option("--download", is_flag=True, help="Download CIFAR, MNIST or Fashion-MNIST where they are missing.")
@json_option
def corrupt(
    data: str,
    out: Path | None,
    chosen: tuple[str, ...],
    severities: tuple[int, ...],
    preset: str | None,
    split: str,
    validation: float,
    data_seed: int,
    image_size: int | None,
    seed: int,
    workers: int | None,
    download: bool,
    json_file: str | None,
) -> None:
    """Write a corrupted copy of a data set in CIFAR-10-C's layout.

    Each corruption is one array, <type>.npy, with one severity after another; labels.npy has the labels, and
    corruptions.json says how they were made. Evaluate on it with --data corrupted:DIR:fog:3.
    """
    from subspace_serve.data import load_part, write_corrupted_copy
    from subspace_serve.data.corruptions import SEVERITIES

    names, left_out = _chosen(chosen or (_ALL,))
    target = out or _usual_target(data, split)
    images, label_names = load_part(
        data, split, validation=validation, seed=data_seed, image_size=image_size, download=download
    )

    levels = sorted(set(severities or SEVERITIES))
    listed = ", ".join(map(str, levels))
    progress_line(f"corrupting {len(images)} {split} images of {data}: {len(names)} type(s) at severity {listed}")
    record = write_corrupted_copy(
        images,
        target,
        corruptions=names,
        severities=levels,
        preset=preset,
        seed=seed,
        workers=workers,
        label_names=label_names,
        data=data,
        split=split,
        track=lambda batches, length: track(batches, length, "corrupting"),
    )
    size = sum(file.stat().st_size for file in target.iterdir())
    spec = f"corrupted:{target}:{record.corruptions[0]}:{record.severities[-1]}"
    report = {"out": str(target), "bytes": size, "left_out": left_out, **record.to_json()}
    if not write_report(report, json_file):
        return
    click.echo(
        f"{target}: {len(record.corruptions)} type(s) of corruption at severity {listed} of {record.count} {split} "
        f"images of {data}, {size / 1e6:.1f} MB (preset {record.preset}, seed {record.seed})"
    )
    for message in left_out.values():
        click.echo(f"left out: {message}")
    click.echo(f"use it with --data {spec}")


def _usual_target(data: str, split: str) -> Path:
    """Return where a copy goes by default: its name says which images it is of."""
    name, _, path = data.partition(":")
    own = path if path and name in _READERS_OF_PATHS else name
    part = "" if split == _USUAL_SPLIT else f"-{split}"
    # Without links followed, but `.` and `..` are names of folders, too.
    return Path("data") / f"{Path(os.path.abspath(own)).stem}{part}-c"


def _chosen(values: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Return the types asked for, in their published order, and why any of `all` is left out.

    Raises:
        DataError: there is no such type.
    """
    from subspace_serve.data.corruptions import CORRUPTIONS, available, check_name
    from subspace_serve.data.corruptions.photographs import require_frost
    from subspace_serve.errors import DataError

    parts = [part.strip() for value in values for part in value.split(",")]
    wanted = {part for part in parts if part != _ALL}
    for name in sorted(wanted):
        check_name("corruption", name, CORRUPTIONS)
    left_out = {}
    if _ALL in parts:
        wanted.update(available())
        try:
            require_frost()
        except DataError as error:
            left_out["frost"] = str(error)
    return [name for name in CORRUPTIONS if name in wanted], left_out


COMMANDS = {"corrupt": corrupt}
