"""Which recipe is best at which length: `python -m benchmarks.recipe_search`, in as many pieces as one likes.

Trains each candidate on three data sets for 10, 40 and 100 epochs with three seeds, judges it on validation images and
keeps each figure in a small file by the hash of its settings: what is there is not trained again, and several
processes can share the work. `--confirm` trains the best on other seeds and measures it on the test images.

    python -m benchmarks.recipe_search --epochs 10 --set digits --minutes 30
    python -m benchmarks.recipe_search --list
    python -m benchmarks.recipe_search --confirm

The third data set is MNIST where a file of it is given (see `benchmarks.recipe`), else Fashion-MNIST with 40 % of the
labels wrong.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from benchmarks.in_memory import InMemory
from benchmarks.recipe import CALIBRATION, sets
from benchmarks.tables import table as markdown_table
from benchmarks.tricks import Tricks, TrickStepper
from trainer.config import TrainingConfig
from trainer.methods import RECIPE
from trainer.presets import PAPER_METHOD
from trainer.reproduce.cache import BusyError, Cache, data_of

LENGTHS = (10, 40, 100)
BEST = 2
"""Subspaces that are confirmed, beside the paper's method, the default recipe, and the best single network."""


@dataclass(frozen=True)
class Candidate:
    """A way to train.

    Attributes:
        settings: that differ from the paper's method; a line is trained unless they say otherwise.
        tricks: what the trainer does not have.
        spread_epochs: how many epochs places take to spread, whatever the length; None for the settings' share.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    tricks: Tricks = field(default_factory=Tricks)
    spread_epochs: int | None = None

    def config(self, base: dict[str, Any], epochs: int, seed: int) -> TrainingConfig:
        """Return its settings on a data set at a length."""
        spread = {} if self.spread_epochs is None else {"spread": min(1.0, self.spread_epochs / epochs)}
        changes = {"subspace": "line", **self.settings, **spread, "epochs": epochs, "seed": seed, "data_seed": seed}
        return TrainingConfig(**PAPER_METHOD | base | changes)


STANDARD, PAPER, DEFAULT = "standard", "paper", "default"
SHUFFLED, PULLED, AVERAGED, SHARP = Tricks(shuffled=0.001), Tricks(pulled=0.01), Tricks(averaged=5), Tricks(radius=0.05)
ONE = {"subspace": "standard"}
PAIRS, FOUR = Tricks(places="antithetic"), Tricks(places="ends-and-middle")

CANDIDATES: dict[str, Candidate] = {
    STANDARD: Candidate(ONE),
    "standard, rate 0.2": Candidate(ONE | {"learning_rate": 0.2}),
    "standard, averaged": Candidate(ONE, AVERAGED),
    "standard, sharpness-aware": Candidate(ONE, SHARP),
    PAPER: Candidate(),
    "paper, 2 samples": Candidate({"samples": 2}),
    "paper, antithetic": Candidate({"samples": 2}, PAIRS),
    "paper, shuffled": Candidate({}, SHUFFLED),
    "paper, pulled": Candidate({}, PULLED),
    DEFAULT: Candidate(RECIPE),
    "default, 4 samples": Candidate(RECIPE | {"samples": 4}),
    "default, antithetic": Candidate(RECIPE, PAIRS),
    "default, ends and middle": Candidate(RECIPE | {"samples": 4}, FOUR),
    "default, shuffled": Candidate(RECIPE, SHUFFLED),
    "default, pulled": Candidate(RECIPE, PULLED),
    "default, averaged": Candidate(RECIPE, AVERAGED),
    "default, sharpness-aware": Candidate(RECIPE, SHARP),
    "default, spread in half the run": Candidate(RECIPE | {"spread": 0.5}),
    "default, spread in 10 epochs": Candidate(RECIPE, spread_epochs=10),
}
"""Each trick that has a meaning for one network is given to the standard network too."""


@dataclass(frozen=True)
class Job:
    """One training, and where its figures go.

    Attributes:
        panel: data set and length.
        candidate: its name.
        config: its settings.
        tricks: what is added to them.
        part: the images that it is judged on: `validation`, or `test` to confirm.
    """

    panel: str
    candidate: str
    config: TrainingConfig
    tricks: Tricks
    part: str

    @property
    def key(self) -> dict[str, Any]:
        """What the figures depend on besides the settings."""
        return {
            "measure": "recipe search",
            "tricks": dataclasses.asdict(self.tricks),
            "part": self.part,
            "calibration": CALIBRATION,
        }

    def measure(self) -> dict[str, Any]:
        """Train, and return how good the midpoint and the ends together are."""
        data = data_of(self.config)
        steps = self.config.epochs * (len(data.train) // self.config.batch_size)
        adapted = partial(TrickStepper, tricks=self.tricks, steps=steps)
        run = InMemory.start(self.config, data, adapted)
        endpoints, after = run.stepper.endpoints, list[Tensor]()
        for _ in run.losses():
            after = [*after, endpoints.values.clone()][-max(1, self.tricks.averaged) :]
        endpoints.values.copy_(torch.stack(after).mean(0))
        l2, cosine_squared = endpoints.distances()
        found: dict[str, Any] = run.metrics(getattr(data, self.part), CALIBRATION)
        return found | ({"l2": l2, "cosine_squared": cosine_squared} if len(endpoints.values) > 1 else {})


def jobs(
    mnist: Path | None, names: Sequence[str], lengths: Sequence[int], seeds: Sequence[int], part: str = "validation"
) -> Iterator[Job]:
    """Yield the trainings: short ones first, and of a length each candidate before the next seed."""
    chosen = {name: base for name, (base, _) in sets(mnist).items()}
    chosen["digits"] = chosen["digits"] | {"validation": 0.2}
    if mnist is None:
        chosen["Fashion-MNIST, 40 % noise"] = chosen["Fashion-MNIST"] | {"label_noise": 0.4}
    for epochs in lengths:
        for seed in seeds:
            for name, base in chosen.items():
                for candidate in names:
                    each = CANDIDATES[candidate]
                    yield Job(f"{name}, {epochs} epochs", candidate, each.config(base, epochs, seed), each.tricks, part)


def perform(wanted: Sequence[Job], store: Cache, minutes: float) -> None:
    """Perform what is not measured and no other process is busy with, until the time is over."""
    until = time.monotonic() + 60 * minutes
    for job in wanted:
        if time.monotonic() > until:
            return
        try:
            store.measurement(job.config, job.key, job.measure)
        except BusyError:
            continue


Found = dict[str, dict[str, list[dict[str, Any] | None]]]
"""What is measured by panel and candidate, one entry a seed; None where it is not."""


def found_by(wanted: Sequence[Job], store: Cache) -> Found:
    """Return what is measured of the trainings."""
    found: Found = {}
    for job in wanted:
        found.setdefault(job.panel, {}).setdefault(job.candidate, []).append(store.known(job.config, job.key))
    return found


def lead(rows: dict[str, list[dict[str, Any] | None]], candidate: str, model: str = "midpoint") -> list[float] | None:
    """Return a candidate's lead in accuracy over the standard network, one a seed; None unless all are measured."""
    pairs = list(zip(rows[candidate], rows[STANDARD], strict=True))
    if any(ours is None or theirs is None or model not in ours for ours, theirs in pairs):
        return None
    return [ours[model]["accuracy"] - theirs["midpoint"]["accuracy"] for ours, theirs in pairs]  # type: ignore[index]


def overall(found: Found, candidate: str, model: str = "midpoint") -> float | None:
    """Return a candidate's mean lead over data sets and lengths; None unless it is measured at all of them."""
    leads = [lead(rows, candidate, model) for rows in found.values()]
    return None if any(each is None for each in leads) else statistics.mean(map(statistics.mean, leads))  # type: ignore


def best(found: Found) -> list[str]:
    """Return the subspaces with the best mean leads and the best single network, of what is measured everywhere."""
    means = {name: overall(found, name) for rows in islice(found.values(), 1) for name in rows}
    order = sorted((name for name, mean in means.items() if mean is not None), key=lambda name: -(means[name] or 0))
    single = [name for name in order if CANDIDATES[name].settings.get("subspace") == "standard"]
    return [*[name for name in order if name not in single][:BEST], *single[:1]]


def table(found: Found, names: Sequence[str]) -> str:
    """Return leads over the standard network in points, best mean first; what is not measured is said."""
    order = sorted(names, key=lambda name: -(mean if (mean := overall(found, name)) is not None else -1.0))
    rows = []
    for name in order:
        cells = [_cell(rows_of, name) for rows_of in found.values()]
        means = [overall(found, name, model) for model in ("midpoint", "ends")]
        rows.append([name, *cells, *("" if mean is None else f"{100 * mean:+.2f}" for mean in means)])
    return markdown_table(["candidate", *found, "mean lead", "ends' ensemble"], rows)


def _cell(rows: dict[str, list[dict[str, Any] | None]], name: str) -> str:
    leads = lead(rows, name)
    if leads is None:
        return f"{sum(run is not None for run in rows[name])} of {len(rows[name])} seeds"
    deviation = f" ± {100 * statistics.stdev(leads):.2f}" if len(leads) > 1 else ""
    return f"{100 * statistics.mean(leads):+.2f}{deviation}"


@click.command()
@click.option("--epochs", type=int, multiple=True, default=LENGTHS, show_default=True, help="Lengths (repeatable).")
@click.option("--set", "only", multiple=True, help="Data sets, by the beginning of their names (repeatable).")
@click.option("--candidate", "names", type=click.Choice(list(CANDIDATES)), multiple=True, help="[default: all]")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--mnist", type=click.Path(exists=True, path_type=Path), help="A .npz file of MNIST's digits.")
@click.option("--minutes", type=click.FloatRange(0), default=float("inf"), help="Begin nothing new after so many.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("runs/recipe-search"), show_default=True)
@click.option("--confirm", is_flag=True, help="Train the best on as many other seeds, and measure on test images.")
@click.option("--list", "only_list", is_flag=True, help="Train nothing; print the table of what there is.")
def main(
    epochs: tuple[int, ...],
    only: tuple[str, ...],
    names: tuple[str, ...],
    seeds: int,
    mnist: Path | None,
    minutes: float,
    cache: Path,
    confirm: bool,
    only_list: bool,
) -> None:
    """Search for a recipe over lengths, in pieces; print a table of leads over the standard network."""
    store = Cache(cache, partial(click.echo, err=True))
    chosen = list(dict.fromkeys([STANDARD, *(names or CANDIDATES)]))
    wanted = [job for job in jobs(mnist, chosen, epochs, range(seeds)) if not only or job.panel.startswith(only)]
    if confirm:
        chosen = list(dict.fromkeys([STANDARD, PAPER, DEFAULT, *best(found_by(wanted, store))]))
        others = jobs(mnist, chosen, epochs, range(seeds, 2 * seeds), part="test")
        wanted = [job for job in others if not only or job.panel.startswith(only)]
    if not only_list:
        perform(wanted, store, minutes)
    found = found_by(wanted, store)
    done = sum(run is not None for rows in found.values() for runs in rows.values() for run in runs)
    click.echo(f"{done} of {len(wanted)} measured on {wanted[0].part} images\n")
    click.echo(table(found, chosen))


if __name__ == "__main__":
    main()
