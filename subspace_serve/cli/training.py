"""The command `train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.output import json_option, say_note, track, write_report
from trainer.methods import METHODS

if TYPE_CHECKING:
    from subspace_serve.data import DataSet
    from subspace_serve.space.architecture import Architecture

# Read without torch, so that --help is instant.
_METHODS = {name: method.summary for name, method in METHODS.items()}


def _argument(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Read KEY=VALUE pairs; a value is JSON where it can be read as such, else text."""
    arguments: dict[str, Any] = {}
    for pair in values:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE")
        try:
            arguments[key] = json.loads(text)
        except ValueError:
            arguments[key] = text
    return arguments


@click.command()
@click.option(
    "--preset",
    help="Start from the paper's settings instead of the default recipe: paper (the method alone), paper-cifar10, "
    "paper-tiny-imagenet, paper-imagenet.",
)
@click.option(
    "--data",
    metavar="SPEC",
    help="digits, mnist[:PATH], fashion-mnist[:PATH], cifar10[:PATH], cifar100[:PATH], tiny-imagenet:PATH, "
    "imagenet:PATH, FILE.npz, or a folder with one folder a class.  [default: digits]",
)
@click.option(
    "--arch",
    "architecture",
    metavar="NAME",
    help="cresnet20-32, tiny-resnet18, a torchvision classifier, or your own MODULE:FUNCTION, a function "
    "(*, classes, channels, height, width) that returns a torch.nn.Module; `collapse` needs --arch for it again.  "
    "[default: cresnet8-8]",
)
@click.option(
    "--arch-argument",
    "arguments",
    multiple=True,
    callback=_argument,
    metavar="KEY=VALUE",
    help="Extra argument of the architecture, such as dropout=0.1 (repeatable).",
)
@click.option(
    "--subspace",
    type=click.Choice(list(_METHODS)),
    metavar="METHOD",
    help="What to train: "
    + "; ".join(f"{name}, {summary}" for name, summary in _METHODS.items())
    + ".  [default: line]",
)
@click.option(
    "--endpoints", type=click.IntRange(2, 10), help="Endpoints of a simplex [default: 3], or members of a baseline."
)
@click.option("--beta", type=float, help="Strength of the term that keeps endpoints diverse.  [default: 1]")
@click.option("--beta-schedule", type=click.Choice(["constant", "growing", "fading"]), help="[default: constant]")
@click.option("--layerwise", is_flag=True, default=None, help="Draw a place of its own for each layer.")
@click.option(
    "--samples", type=click.IntRange(1), help="Places drawn a batch.  [default: 2 for line, curve and simplex]"
)
@click.option("--feature-similarity", type=float, help="Strength of the feature-similarity term.  [default: 0]")
@click.option("--shared", type=float, help="Fraction of the epochs before endpoints or members part.  [default: 0]")
@click.option(
    "--spread", type=float, help="Fraction of the run in which drawn places spread from the midpoint.  [default: 1]"
)
@click.option(
    "--scaled-gradients/--plain-gradients",
    default=None,
    help="Whether the midpoint moves as fast as one network.  [default: scaled]",
)
@click.option("--epsilon", type=float, help="Step of an integral's finite difference.  [default: 0.1]")
@click.option("--tail", type=float, help="Last part of the run, where swa, swag and fge keep members.  [default: 0.25]")
@click.option("--tail-learning-rate", type=float, help="[default: 0.05]")
@click.option(
    "--tail-schedule", type=click.Choice(["constant", "cyclic"]), help="Of swa and swag.  [default: constant]"
)
@click.option("--early-stopping", is_flag=True, default=None, help="Keep the epoch that validates best, not the last.")
@click.option("--label-noise", type=float, help="Fraction of labels replaced by random ones.  [default: 0]")
@click.option(
    "--init",
    "initialisation",
    metavar="HOW",
    help="independent, shared, or a checkpoint to start from.  [default: independent]",
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the training images.  [default: 30]")
@click.option("--batch-size", type=click.IntRange(1), help="[default: 128]")
@click.option("--learning-rate", type=float, help="Its peak.  [default: 0.2 for line, curve and simplex, else 0.1]")
@click.option("--momentum", type=float, help="[default: 0.9]")
@click.option("--weight-decay", type=float, help="[default: 0.0001]")
@click.option("--warmup-epochs", type=float, help="[default: 5, at most a quarter of the run]")
@click.option("--label-smoothing", type=float, help="[default: 0]")
@click.option("--clip-gradient", type=float, help="Largest gradient norm; 0 does not clip.  [default: 0]")
@click.option("--validation", type=float, help="Fraction of the training images set aside.  [default: 0.1]")
@click.option("--train-images", type=click.IntRange(1), help="How many training images to use.  [default: all]")
@click.option(
    "--image-size",
    type=click.IntRange(1),
    metavar="N",
    help="Side to which images are brought.  [default: the data's own; of a folder of files its "
    "own up to 64 px, or up to 224 where all are alike, else 224]",
)
@click.option(
    "--skip-unreadable", is_flag=True, default=None, help="Leave image files out that cannot be read, and record them."
)
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), help="bfloat16 is for CUDA.")
@click.option("--compile", is_flag=True, default=None, help="Run the network through torch.compile.")
@click.option("--device", help="auto, cpu or cuda.  [default: auto]")
@click.option("--seed", type=click.IntRange(0), help="[default: 0]")
@click.option("--data-seed", type=click.IntRange(0), help="Of the validation split.  [default: 0]")
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
    from trainer.config import TrainingConfig
    from trainer.presets import PRESETS
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
        config = TrainingConfig.from_json(recorded)
        target = resume
    else:
        if preset is not None and preset not in PRESETS:
            raise click.BadParameter(f"{preset!r} is none of {', '.join(PRESETS)}", param_hint="--preset")
        ranks = Ranks.current()
        config = TrainingConfig.from_json((PRESETS[preset] if preset else {}) | given)
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
    from trainer.run_folder import RunFolder

    finished = RunFolder(run).finished_epochs() if resumable else 0
    if not finished:
        return "stopped before the first epoch was finished: nothing is kept; start it again with the same command"
    return f"stopped; {finished} finished epochs are kept: go on with subspace-serve train --resume {run}"


COMMANDS = {"train": train}
