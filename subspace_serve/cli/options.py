"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

LATEST_RUN = Path("runs/latest")


def run_options(command: Callable) -> Callable:
    """Add the argument RUN and the options that say how its networks are built and recalibrated."""
    for decorate in (
        click.argument("run", type=click.Path(path_type=Path), default=LATEST_RUN),
        click.option("--arch", metavar="MODULE:FUNCTION", help="The run's own architecture, when it has one."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
        click.option(
            "--calibration-count", type=click.IntRange(2), default=10_000, show_default=True,
            help="Training images, at most, that recompute BatchNorm's statistics.",
        ),
        click.option("--calibration-batch", type=click.IntRange(2), default=128, show_default=True),
        click.option("--resize", is_flag=True, help="Bring images of another size to the network's."),
        click.option(
            "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of random draws.",
        ),
    ):  # fmt: skip
        command = decorate(command)
    return command


def aggregate_option(more: str = "") -> Callable[[Callable], Callable]:
    """Return the option that says what ensembles average; `more` is appended to its help."""
    return click.option(
        "--aggregate", type=click.Choice(["probabilities", "logits"]), default="probabilities", show_default=True,
        help=f"What ensembles average{more}.",
    )  # fmt: skip


sets_method_option = click.option(
    "--sets-method", type=click.Choice(["lac", "aps", "raps"]), default="lac", show_default=True,
    help="Scores of the prediction sets: the smallest sets (lac), or sets that grow with an image's difficulty.",
)  # fmt: skip

extrapolate_option = click.option("--extrapolate", is_flag=True, help="Allow places a little outside a line.")


def calibrate_on_option(default: str = "the run's training images", *, domain: bool = False) -> Callable:
    """Return the option that says which images BatchNorm's statistics are computed from.

    Args:
        default: which images those are without the option, for its help.
        domain: whether it also takes the word `domain`.
    """
    return click.option(
        "--calibrate-on", metavar="SPEC|domain" if domain else "SPEC",
        help="Recompute BatchNorm's statistics with these images, labelled or not, from where the model will run"
        f"{'; `domain`: with the half that is chosen on' if domain else ''}.  [default: {default}]",
    )  # fmt: skip


def _with_corruptions(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Refuse an option that says how to corrupt when nothing is corrupted."""
    given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    if given and not context.params["corruptions"]:
        raise click.UsageError(f"{parameter.opts[0]} says how --corruption corrupts; give both")
    return value


def corruption_options(command: Callable) -> Callable:
    """Add the options that say how images are corrupted; they arrive as `corruptions`, `severities`, `preset`."""
    for decorate in (
        click.option(
            "--corruption", "corruptions", multiple=True, metavar="NAME", is_eager=True,
            help="fog, a list fog,snow, or all (repeatable): corrupt the images, or take them so from a set in "
            "CIFAR-C's, ImageNet-C's or MedMNIST-C's layout.",
        ),
        click.option(
            "--severity", "severities", type=int, multiple=True, metavar="1-5", callback=_with_corruptions,
            help="Of the corruption (repeatable).  [default: 3]",
        ),
        click.option(
            "--preset", metavar="TABLE", callback=_with_corruptions,
            help="Severities as in cifar, tiny or imagenet.  [default: by image size]",
        ),
    ):  # fmt: skip
        command = decorate(command)
    return command
