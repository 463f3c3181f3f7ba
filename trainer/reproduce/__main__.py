"""The command `python -m trainer.reproduce`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from subspace_serve.errors import DataError, SubspaceServeError, TrainingError
from subspace_serve.suggestions import did_you_mean
from trainer.reproduce.cache import Cache
from trainer.reproduce.description import Figure, Measurement
from trainer.reproduce.figures import FIGURES
from trainer.reproduce.introduction import introduction
from trainer.reproduce.page import figure_document, judge, write_figure, write_page
from trainer.reproduce.scales import SCALES, Scale
from trainer.reproduce.work import Task, perform_all, tasks_of


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
@click.option("--workers", type=click.IntRange(1), help="Processes that share the work.  [default: one a core]")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of reproduction.md and its pictures.  [default: the cache's page-SCALE]",
)
@click.option("--list", "only_list", is_flag=True, help="Say what each figure is and what of it is done; do nothing.")
def main(
    names: tuple[str, ...],
    scale_name: str,
    seeds: int | None,
    data: dict[str, str],
    workers: int | None,
    cache: Path,
    out: Path | None,
    only_list: bool,
) -> None:
    """Make the paper's figures again, and test its claims: FIGURE is a number from 2 to 21, several, or all.

    What was interrupted goes on where it stopped. Writes a picture, numbers and verdicts for each figure, and a page of
    all that are there. Under torchrun each rank takes runs that no other is busy with.
    """
    scale = SCALES[scale_name]
    _check_data(data, scale)
    figures = _figures(names)
    tasks = {figure.name: tasks_of(figure, scale, data, seeds) for figure in figures}
    if only_list:
        _list(figures, tasks, cache)
        return
    ranks, rank = int(os.environ.get("WORLD_SIZE") or 1), int(os.environ.get("RANK") or 0)
    processes = 1 if ranks > 1 else workers or os.cpu_count() or 1
    missing = _missing([task for figure in figures for task in tasks[figure.name]], cache)
    total = sum(map(len, tasks.values()))
    click.echo(f"figures: {len(figures)}; {len(missing)} of {total} measurements to make", err=True)
    try:
        perform_all(missing, cache, min(processes, max(1, len(missing))), lambda line: click.echo(line, err=True))
    finally:
        # What is complete is drawn whatever happened to the rest.
        if rank == 0:
            complete = [figure for figure in figures if not _missing(tasks[figure.name], cache)]
            options = f"--scale {scale.name}" + (f" --seeds {seeds}" if seeds else "")
            for figure in complete:
                command = f"python -m trainer.reproduce {figure.name} {options}"
                _draw(figure, scale, tasks[figure.name], Cache(cache), out or cache / f"page-{scale.name}", command)


def _check_data(data: dict[str, str], scale: Scale) -> None:
    """Raise `TrainingError` when a data set is named that the scale does not use."""
    known = sorted({str(panel.settings["data"]) for panel in scale.panels.values()})
    unknown = sorted(data.keys() - set(known))
    if unknown:
        raise TrainingError(f"the scale {scale.name} has no data set {unknown[0]!r}; it has {', '.join(known)}")


def _missing(tasks: list[Task], cache: Path) -> list[Task]:
    """Return the measurements that are not there, each once."""
    store = Cache(cache)
    missing = {store.measured_file(task.config, task.measure.key()): task for task in tasks}
    return [task for file, task in missing.items() if not file.exists()]


def _draw(figure: Figure, scale: Scale, tasks: list[Task], store: Cache, folder: Path, command: str) -> None:
    """Draw and judge a figure whose measurements are there; write the page of all figures."""
    panels: dict[str, dict[str, list[Measurement]]] = {}
    for task in tasks:
        panels.setdefault(task.panel, {}).setdefault(task.label, []).append(task.perform(store))
    pictures = folder / "reproduction"
    pictures.mkdir(parents=True, exist_ok=True)
    figure.draw(panels, pictures / f"figure-{int(figure.name):02d}.png")
    judged = judge(figure, scale, panels)
    write_figure(pictures, figure_document(figure, scale, panels, judged, command))
    write_page(folder / "reproduction.md", pictures, introduction(scale))
    click.echo(f"figure {figure.name}, {figure.title}: {pictures}/figure-{int(figure.name):02d}.png")
    for claim in judged:
        click.echo(f"  {claim.word}: {claim.text} {claim.numbers}")


def _figures(names: tuple[str, ...]) -> list[Figure]:
    """Return the figures that are meant.

    Raises:
        TrainingError: there is no such figure.
    """
    if not names or "all" in names:
        return list(FIGURES.values())
    for name in names:
        if name not in FIGURES:
            hint = did_you_mean(name, FIGURES)
            raise TrainingError(
                f"there is no figure {name!r} to reproduce{f'; {hint}' if hint else ''}; the figures are "
                f"{', '.join(FIGURES)} (figure 1 is a schematic), or all"
            )
    return [FIGURES[name] for name in dict.fromkeys(names)]


def _list(figures: list[Figure], tasks: dict[str, list[Task]], cache: Path) -> None:
    store = Cache(cache)
    for figure in figures:
        done = sum(store.measured_file(task.config, task.measure.key()).exists() for task in tasks[figure.name])
        click.echo(f"{figure.name:>2}  {done:>3} of {len(tasks[figure.name]):>3}  {figure.title}")


def run() -> None:
    """Run the command; a user's error is one message and exit status 1."""
    try:
        main.main(standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; the same command goes on from here", err=True)
        sys.exit(130)
    except DataError as error:
        click.echo(f"Error: {error} (here as --data NAME=SPEC, such as --data cifar10=cifar10:PATH)", err=True)
        sys.exit(1)
    except (SubspaceServeError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    run()
