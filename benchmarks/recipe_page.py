"""docs/recipe.md: what the search for a recipe found."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from benchmarks.recipe_candidates import DEFAULT, PAPER, SEEDS, SPREADING, STANDARD
from benchmarks.recipe_goals import goal_counts, goals
from benchmarks.recipe_job import Row
from benchmarks.recipe_leads import COLUMNS, CRITERION, Rows, cell, leads
from benchmarks.tables import table

Found = dict[int, dict[str, dict[str, list[Row | None]]]]
"""What is measured by length, panel and candidate, one entry a seed."""

FINALISTS = (STANDARD, DEFAULT, "spread in 10 epochs, rate 0.1")
"""What the search trains with more than one seed."""
LINES = (*FINALISTS[1:], SPREADING, PAPER)
CONFIRMED = (STANDARD, "standard, rate 0.2", *LINES)
"""What is trained on other seeds."""
COMPARED, LARGE_BATCHES_EPOCHS = (STANDARD, *LINES[:3]), 40
"""What is trained in large batches, and for how long."""


def length_table(panels: Mapping[str, Rows], seeds: int) -> str:
    """Return the table of a length: differences to the standard network, of every candidate that has so many seeds.

    The best is first. Only the first seeds are shown, so that all rows are of the same.
    """
    same = {title: {name: rows[:seeds] for name, rows in each.items()} for title, each in panels.items()}
    scores = {name: leads(same, name, CRITERION) for name in next(iter(same.values()), {})}
    complete = [name for name, found in scores.items() if len(found) == seeds]
    if not complete:
        return NOTHING
    rows = [
        [name, *(cell(leads(same, name, column), column) for column in COLUMNS)]
        for name in sorted(complete, key=lambda name: -mean(scores[name]))
    ]
    return table(["candidate", *(column.title for column in COLUMNS)], rows)


def page(
    searched: Found,
    confirmed: Found,
    large: Found,
    counts: Mapping[str, tuple[int, int]],
    environment: dict[str, Any],
) -> str:
    """Return docs/recipe.md.

    Args:
        searched: by the search.
        confirmed: on other seeds.
        large: in large batches.
        counts: how many trainings are measured, and of how many, of the `search` and to `confirm`.
        environment: where the page is made.
    """
    done, wanted = counts["search"]
    text = _INTRODUCTION.format(done=f"{done:,}", wanted=f"{wanted:,}")
    for epochs, panels in searched.items():
        text += f"\n## {epochs} epochs\n\nOne seed:\n\n{length_table(panels, 1)}"
        text += f"\n{SEEDS} seeds:\n\n{length_table(panels, SEEDS)}"
    text += f"\n{_LARGE_BATCHES}\n{length_table(large[LARGE_BATCHES_EPOCHS], SEEDS)}"
    done, wanted = counts["confirm"]
    text += f"\n## On other seeds, and test images\n\n{_CONFIRMATION} {done:,} of {wanted:,} are measured.\n"
    for epochs, panels in confirmed.items():
        text += f"\n{epochs} epochs:\n\n{length_table(panels, SEEDS)}"
    text += f"\n{_GOALS}\n{goals(confirmed, DEFAULT)}\n{_COUNTS}\n{goal_counts(confirmed, LINES)}"
    hardware, versions = environment["hardware"], environment["versions"]
    return text + (
        f"\nHardware: {hardware['cores']} cores, {hardware['processor']}.\n"
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.\n"
    )


NOTHING = "Not measured yet.\n"

_INTRODUCTION = """\
# The default recipe

Trained as in the paper (`--preset paper`), the midpoint of a line is worse than a standard network where training is
short, and better in long runs where labels are wrong. The trainer's default for lines, curves and simplexes is another
recipe, *spread in 10 epochs* in the tables, which keeps most of that gain and avoids most of that loss:

- **Spreading** (`--spread`): places are drawn close to the midpoint at first, and from the whole subspace later:
  α = 1/2 + w(u − 1/2), w growing from 0 to 1 within 10 epochs, but at least 300 steps. Nearly orthogonal
  ends from the first step, and yet a midpoint that begins like one network.
- **Scaled gradients** (`--scaled-gradients`): in Algorithm 1 the midpoint of a line moves by half the gradient, that of
  a simplex by 1/m, since each endpoint takes its coefficient's share. Multiplied by 2 (by m; by 8/3 for a curve), it
  moves as far as a standard network would.
- **Rate 0.2**, and **2 samples** a batch (appendix B).

How its midpoint and its ends do at seven lengths, three seeds each, beside a standard network, the paper's settings and
two independent networks, is in [figure 10 of the reproduction](reproduction.md#figure-10).

Which recipe is best depends on the length of training and on the labels, so candidates are compared at three lengths,
on three data sets, with right labels and with 40 % label noise (so many training labels replaced by random ones): the
digits of scikit-learn, and 1,000 images each of Fashion-MNIST and of MNIST at 14 pixels a side; `cresnet8-16`, batches
of 32, so that an epoch has 31 to 35 steps. Each figure is a difference to the standard network of the same length, data
and seed (`standard`), the mean over the three data sets, on validation images, with its sample standard deviation over
seeds: accuracy and calibration error (ECE) in points, likelihood (NLL) in nats. The ends answer together. The last
column is the midpoint's lead in accuracy over all six. Made, in as many pieces as one likes, by

    python -m benchmarks.recipe --mnist mnist.npz

Every candidate is trained with one seed, the finalists with three: {done} of {wanted} trainings are measured; a
candidate that is not measured on all six is left out. At 10 epochs the spread in 10 or 20 epochs is that over the whole
run, and at 40 the spread in 20 epochs is that in half of it.

The trainer has the settings: samples, rate, β, scaled gradients, how long places spread (over the whole run in
*spreading*, in half of it, in so many epochs), a part of the run before the ends part. Tricks that it lacks are in
`benchmarks/tricks.py`; one that wins is moved into the trainer:

- *shuffled*: a random thousandth of the coordinates, with their momenta, is permuted among the ends after each step,
  which leaves the midpoint where it is (WASH, [arXiv 2405.17517](https://arxiv.org/abs/2405.17517));
- *pulled*: the ends move towards their mean (PAPA, [arXiv 2304.03094](https://arxiv.org/abs/2304.03094));
- *antithetic*: α and 1 − α in one batch; *middle*: the midpoint and one more place in every batch; *ends and middle*:
  the ends, too;
- *averaged*: each end is the mean of its last five epochs (LAWA, [arXiv 2209.14981](https://arxiv.org/abs/2209.14981));
- *sharpness-aware*: such steps in the last tenth (SAM, [arXiv 2010.01412](https://arxiv.org/abs/2010.01412)).

Tricks that make sense for a single network are applied to the standard network, too.

## What the tables below say

- **How long places spread is a choice between right and wrong labels.** The sooner all of the line is trained, the
  better its midpoint withstands wrong labels, and the less accurate it is where labels are right. Ten epochs take
  nearly all that the paper's settings gain under noise, at a smaller price where there is none: the default. If you
  trust your labels, `--spread 1` gives a more accurate midpoint.
- **In short runs no line is ahead of a standard network** on the seeds and images that confirm. The paper's settings
  fall far behind it, the default a little, most on Fashion-MNIST. What a line gains comes once the images are fitted.
- **The rate of 0.2 or 0.1** makes no difference to accuracy beyond chance in batches of 32, at any length; 0.1 is
  better calibrated in long runs. In batches of 128 the midpoint is more accurate by 0.2: hence the default. In long
  runs with right labels a standard network, too, is more accurate by 0.2.
- **Of the tricks none replaces the default.** Each has one seed, and between seeds the default itself differs by 0.5
  points with right labels, and under noise by 0.8 at 40 and 2.6 at 100 epochs; within that no trick is ahead at all
  lengths. The ends and the middle in every batch, in four samples, lead at 100 epochs under noise; four samples that
  spread over the whole run lead at 40; both are behind at 10. The middle alone takes a part of what is gained under
  noise at 100 epochs. Shuffling leaves the midpoint as good and makes the ends together less likely, at every length.
  Pulling, antithetic places and sharpness-aware steps gain nothing beyond chance; averaging costs at 10 epochs and
  changes nothing later.
"""

_LARGE_BATCHES = f"""\
## Large batches

With batches of 128 an epoch of these data has 7 or 8 steps, so that places spread in 70 to 80 steps instead of 310 to
350; *spreading* takes the whole run, {LARGE_BATCHES_EPOCHS} epochs. The longer spread is better here: hence the default
takes at least 300 steps. Made by `python -m benchmarks.recipe large-batches`:
"""

_GOALS = """\
## What the default is to reach

At equal passes the midpoint is to be no less accurate than a standard network, with a better likelihood and
calibration, the ends together more accurate and more likely, and at 40 % label noise the midpoint ahead by 3 points.
From the test images and seeds of the section before, set by set; by a one-sided t-interval of 95 % over seeds:
"""

_COUNTS = """\
The same counted, for every line that was trained on these seeds:
"""

_CONFIRMATION = """\
A recipe that is chosen by figures is flattered by them. So what they choose is trained again with three other seeds and
measured on the test images, by `python -m benchmarks.recipe confirm`."""
