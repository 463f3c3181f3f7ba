"""The command `train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.flags import architecture_arguments, setting_options
from subspace_serve.cli.output import json_option, say_note, track, write_report
from subspace_serve.run.metrics import read_metrics
from trainer.config import TrainingConfig
from trainer.methods.method import MOST_MEMBERS
from trainer.presets import PRESETS

if TYPE_CHECKING:
    from subspace_serve.data import DataSet
    from subspace_serve.space.architecture import Architecture

# Read without torch, so that --help is instant.
_SETTINGS = TrainingConfig.model_fields


@click.command()
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    metavar="PRESET",
    help="Start from the paper's settings instead of the default recipe, of the method alone or of an experiment: "
    f"{', '.join(PRESETS)}.",
)
@architecture_arguments
@click.option("--endpoints", type=click.IntRange(2, MOST_MEMBERS), help=_SETTINGS["endpoints"].description)
@setting_options(
    TrainingConfig,
    without=("arguments", "endpoints"),
    flags={
        "architecture": "--arch",
        "scaled_gradients": "--scaled-gradients/--plain-gradients",
        "initialisation": "--init",
    },
    metavars={"data": "SPEC", "architecture": "NAME", "subspace": "METHOD", "initialisation": "HOW"},
)
@click.option("--out", type=click.Path(path_type=Path), metavar="RUN", help="The run's folder.  [default: runs/NAME]")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with an interrupted run, with the settings it was started with.",
)
@click.option("--overwrite", is_flag=True, help="Replace a run that is in the folder already.")
@click.option("--download", is_flag=True, help="Download CIFAR, MNIST or Fashion-MNIST where they are missing.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard's event files too.")
@json_option
def train(
    preset: str | None,
    out: Path | None,
    resume: Path | None,
    overwrite: bool,
    download: bool,
    tensorboard: bool,
    json_file: str | None,
    **settings: Any,
) -> None:
    """Train a line, curve or simplex of networks, a standard network, or another baseline of the paper.

    Writes runs/NAME/ and points runs/latest at it. Without options: a line on scikit-learn's digits.
    """
    from subspace_serve.data import summary
    from subspace_serve.space.architecture import is_custom
    from trainer.ranks import Ranks
    from trainer.reporting import describe, notes
    from trainer.run_folder import RunFolder
    from trainer.training import train as run_training

    given = {name: value for name, value in settings.items() if value is not None and value != {}}
    if resume is not None:
        if given or preset or out:
            raise click.UsageError("--resume takes the run's own settings: give no other settings with it")
        ranks = Ranks.current()
        # The other ranks' machines need not see the run's folder.
        recorded = ranks.broadcast(RunFolder(resume).read_config().to_json() if ranks.is_first else {})
        config = TrainingConfig(**recorded)
        target = resume
    else:
        ranks = Ranks.current()
        config = TrainingConfig(**(PRESETS[preset] if preset else {}) | given)
        target = out or Path("runs") / config.run_name
    records: list[dict[str, Any]] = []

    def report(record: dict[str, Any]) -> None:
        records.append(record)
        click.echo(describe(record), err=json_file == "-")

    def announce(data: DataSet, architecture: Architecture) -> None:
        click.echo(summary(data), err=True)
        for note in notes(config, data, architecture):
            say_note(note)

    click.echo(f"training {config.subspace} of {config.architecture} on {config.data} into {target}", err=True)
    try:
        run_training(
            config,
            target,
            resume=resume is not None,
            overwrite=overwrite,
            download=download,
            tensorboard=tensorboard,
            ranks=ranks,
            announce=announce,
            report=report,
            track=track,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_how_to_go_on(target, resumable=bool(records) or resume is not None)) from None
    if is_custom(config.architecture):
        again = f"--arch {config.architecture}"
        click.echo(f"collapse needs your network again: {again}; the others work on its graph", err=True)
    if ranks.is_first:
        write_report({"run": str(target), "config": config.to_json(), "epochs": records}, json_file)


def _how_to_go_on(run: Path, *, resumable: bool) -> str:
    """Return what somebody can do who stopped a run."""
    finished = len(read_metrics(run, sys.maxsize)) if resumable else 0
    if not finished:
        return "stopped before the first epoch was finished: nothing is kept; start it again with the same command"
    return f"stopped; {finished} finished epochs are kept: go on with subspace-serve train --resume {run}"


COMMANDS = {"train": train}
