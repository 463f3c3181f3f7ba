"""The command `python -m trainer.reproduce`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from subspace_serve.cli import run
from subspace_serve.cli.numbers import explain_numbers
from subspace_serve.errors import DataError, TrainingError
from subspace_serve.suggestions import did_you_mean
from trainer.reproduce.cache import Cache
from trainer.reproduce.description import Figure
from trainer.reproduce.figures import FIGURES
from trainer.reproduce.page import claim_numbers, figure_document, judge, picture_file, write_figure, write_page
from trainer.reproduce.scales import SCALES, Scale
from trainer.reproduce.unfinished import unfinished_document, write_unfinished
from trainer.reproduce.work import Task, is_measured, measured, missing, perform_all, tasks_of


def _data(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Read NAME=SPEC pairs."""
    pairs = [value.partition("=") for value in values]
    bad = [value for value, (name, equals, spec) in zip(values, pairs, strict=True) if not (name and equals and spec)]
    if bad:
        raise click.BadParameter(f"{bad[0]!r} is not NAME=SPEC, as in imagenet=imagenet:/data/imagenet")
    return {name: spec for name, _, spec in pairs}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[FIGURE]...")
@click.option("--scale", "scale_name", type=click.Choice(list(SCALES)), default="small", show_default=True)
@click.option("--seeds", type=click.IntRange(1), help="How many, from 0.  [default: the scale's]")
@click.option(
    "--data",
    multiple=True,
    callback=_data,
    metavar="NAME=SPEC",
    help="Where a data set lies, as in imagenet=imagenet:/data/imagenet (repeatable).",
)
@click.option("--device", help="Where to train: cpu, cuda; workers share a device.  [default: the scale's]")
@click.option("--workers", type=click.IntRange(1), help="Processes that share the work.  [default: one a core]")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True)
@click.option(
    "--measurements",
    type=click.Path(path_type=Path),
    help="Folder of measurements, each a small file; what is in it is not trained or measured again.  "
    "[default: the cache's measured]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of reproduction.md and its pictures; scales that share it stand side by side.  "
    "[default: the cache's page-SCALE]",
)
@click.option("--list", "only_list", is_flag=True, help="List the figures and how much of each is done; do nothing.")
@click.option("--draw", "only_draw", is_flag=True, help="Train and measure nothing; write the page of what there is.")
def main(
    names: tuple[str, ...],
    scale_name: str,
    seeds: int | None,
    data: dict[str, str],
    device: str | None,
    workers: int | None,
    cache: Path,
    measurements: Path | None,
    out: Path | None,
    only_list: bool,
    only_draw: bool,
) -> None:
    """Make the paper's figures again, and test its claims: FIGURE is a number from 2 to 21, several, or all.

    Interrupted work goes on where it stopped. Writes a picture, numbers and verdicts for each figure that is complete,
    what is measured of the others, and a page of all of them. Under torchrun each rank takes runs that no other is busy
    with.
    """
    scale = SCALES[scale_name]
    _check_data(data, scale)
    figures = _figures(names, scale)
    tasks = {figure.name: tasks_of(figure, scale, data, seeds, device) for figure in figures}
    store = Cache(cache, partial(click.echo, err=True), measurements)
    if only_list:
        _list(figures, tasks, store)
        return
    ranks, rank = int(os.environ.get("WORLD_SIZE") or 1), int(os.environ.get("RANK") or 0)
    processes = 1 if ranks > 1 else workers or os.cpu_count() or 1
    left = missing([task for figure in figures for task in tasks[figure.name]], store)
    total = sum(map(len, tasks.values()))
    click.echo(f"figures: {len(figures)}; {len(left)} of {total} measurements to make", err=True)
    try:
        if not only_draw:
            perform_all(left, store, min(processes, max(1, len(left))))
    except DataError as error:
        raise DataError(f"{error} (here as --data NAME=SPEC, such as --data cifar10=cifar10:PATH)") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; the same command goes on from here") from None
    finally:
        # What is measured is shown, whatever happened to the rest.
        if rank == 0 and any(is_measured(task, store) for wanted in tasks.values() for task in wanted):
            page = (out or cache / f"page-{scale.name}") / "reproduction.md"
            options = f"--scale {scale.name}" + (f" --seeds {seeds}" if seeds else "")
            options += "".join(f" --data {name}={spec}" for name, spec in data.items())
            options += f" --device {device}" if device else ""
            for figure in figures:
                command = f"python -m trainer.reproduce {figure.name} {options}"
                _show(figure, scale, tasks[figure.name], store, picture_file(page, scale.name, figure.name), command)
            write_page(page)


def _check_data(data: dict[str, str], scale: Scale) -> None:
    """Raise `TrainingError` when a data set is named that the scale does not use."""
    known = sorted({str(panel.settings["data"]) for panel in scale.panels.values()})
    unknown = sorted(data.keys() - set(known))
    if unknown:
        raise TrainingError(f"the scale {scale.name} has no data set {unknown[0]!r}; it has {', '.join(known)}")


def _show(figure: Figure, scale: Scale, tasks: Sequence[Task], store: Cache, picture: Path, command: str) -> None:
    """Draw and judge a figure whose measurements are complete; of another, note what there is."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    if missing(tasks, store):
        write_unfinished(picture, unfinished_document(figure, scale, tasks, store, command))
        return
    panels = measured(tasks, store)
    figure.plot([part for title, results in panels.items() for part in figure.picture(title, results)], picture)
    judged = judge(figure, scale, panels)
    hardware = {store.hardware(task.config, task.measure.key()) for task in tasks}
    write_figure(picture, figure_document(figure, scale, panels, judged, command, hardware))
    click.echo(f"figure {figure.name}, {figure.title}: {picture}")
    for claim in judged:
        click.echo(f"  {claim['word']}: {claim['text']} {claim_numbers(claim)}")


def _figures(names: tuple[str, ...], scale: Scale) -> list[Figure]:
    """Return the figures of these names; without any, or with `all`, those of the scale.

    Raises:
        TrainingError: there is no such figure.
    """
    if not names or "all" in names:
        return [FIGURES[name] for name in scale.figures or FIGURES]
    for name in names:
        if name not in FIGURES:
            hint = did_you_mean(name, FIGURES)
            raise TrainingError(
                f"there is no figure {name!r} to reproduce{hint and f'; {hint}'}; the figures are {', '.join(FIGURES)} "
                "(figure 1 is a schematic), or all"
            )
    return [FIGURES[name] for name in dict.fromkeys(names)]


def _list(figures: Sequence[Figure], tasks: dict[str, list[Task]], store: Cache) -> None:
    for figure in figures:
        wanted = tasks[figure.name]
        done = sum(is_measured(task, store) for task in wanted)
        click.echo(f"{figure.name:>2}  {done:>3} of {len(wanted):>3}  {figure.title}")


explain_numbers(main)

if __name__ == "__main__":
    run(main)
