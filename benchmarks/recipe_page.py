"""docs/recipe.md: what the search for a recipe found."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from benchmarks.recipe_candidates import DEFAULT, PAPER, SPREADING, STANDARD
from benchmarks.recipe_goals import counts, goals
from benchmarks.recipe_job import Row
from benchmarks.recipe_leads import Column, Rows, cell, leads
from benchmarks.tables import table

Found = dict[int, dict[str, dict[str, list[Row | None]]]]
"""What is measured by length, panel and candidate, one entry a seed."""

LINES = (DEFAULT, "spread in 10 epochs, rate 0.1", SPREADING, PAPER)
CONFIRMED = (STANDARD, "standard, rate 0.2", *LINES)
"""What is trained on other seeds."""
COMPARED, FEW_STEPS_EPOCHS = (STANDARD, *LINES[:3]), 40
"""What is trained in large batches, and for how long."""


COLUMNS = (
    Column("midpoint: points", False, "midpoint", "accuracy"),
    Column("NLL", False, "midpoint", "nll", 1.0),
    Column("ECE, points", False, "midpoint", "ece"),
    Column("ends: points", False, "ends", "accuracy"),
    Column("NLL", False, "ends", "nll", 1.0),
    Column("noisy: midpoint, points", True, "midpoint", "accuracy"),
    Column("ends, points", True, "ends", "accuracy"),
    Column("**midpoint, all**", None, "midpoint", "accuracy"),
)
CRITERION = COLUMNS[-1]
"""What recipes are chosen by."""


def length_table(panels: Mapping[str, Rows]) -> str:
    """Return the table of a length: differences to the standard network, best first; what has no seed is left out."""
    scores = {name: leads(panels, name, CRITERION) for name in next(iter(panels.values()), {})}
    order = sorted((name for name, found in scores.items() if found), key=lambda name: -mean(scores[name]))
    rows = []
    for name in order:
        cells = [cell(leads(panels, name, column), column) for column in COLUMNS]
        rows.append([name, *cells, str(len(scores[name]))])
    return table(["candidate", *(column.title for column in COLUMNS), "seeds"], rows)


def count(found: Found) -> tuple[int, int]:
    """Return how many trainings are measured, and of how many."""
    rows = [row for panels in found.values() for rows in panels.values() for runs in rows.values() for row in runs]
    return sum(row is not None for row in rows), len(rows)


def page(searched: Found, confirmed: Found, few: Found, environment: dict[str, Any]) -> str:
    """Return docs/recipe.md."""
    done, wanted = count(searched)
    confirming, to_confirm = count(confirmed)
    text = _INTRODUCTION.format(done=f"{done:,}", wanted=f"{wanted:,}")
    for epochs, panels in searched.items():
        text += f"\n## {epochs} epochs\n\n{length_table(panels) if _any(panels) else NOTHING}"
    text += f"\n{_FEW_STEPS}\n{length_table(few[FEW_STEPS_EPOCHS]) if _any(few[FEW_STEPS_EPOCHS]) else NOTHING}"
    text += f"\n## On other seeds, and test images\n\n{_CONFIRMATION} {confirming} of {to_confirm} are measured.\n"
    for epochs, panels in confirmed.items():
        text += f"\n{epochs} epochs:\n\n{length_table(panels) if _any(panels) else NOTHING}"
    text += f"\n{_GOALS}\n{goals(confirmed, DEFAULT)}\n{_COUNTS}\n{counts(confirmed, LINES)}"
    hardware, versions = environment["hardware"], environment["versions"]
    return text + (
        f"\nHardware: {hardware['cores']} cores, {hardware['processor']}.\n"
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.\n"
    )


def _any(panels: Mapping[str, Rows]) -> bool:
    return any(leads(panels, name, CRITERION) for name in next(iter(panels.values()), {}))


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
on three data sets, with right labels and with 40 % of the training labels wrong: the digits of scikit-learn, and 1,000
images each of Fashion-MNIST and of MNIST at 14 pixels a side; `cresnet8-16`, batches of 32, so that an epoch has 31 to
35 steps. Each figure is a difference to the standard network of the same length, data and seed (`standard`), the mean
over the three data sets, on validation images, with its sample standard deviation over seeds: accuracy and calibration
error (ECE) in points, likelihood (NLL) in nats. The ends answer together. The last column decides: the midpoint's lead
in accuracy over all six. Made, in as many pieces as one likes, by

    python -m benchmarks.recipe --mnist mnist.npz

{done} of {wanted} trainings are measured; what has no seed yet on all six is left out.

What the trainer has are its settings: samples, rate, β, scaled gradients, how long places spread (over the whole run in
*spreading*, in half of it, in so many epochs), a part of the run before the ends part. What it does not have
(`benchmarks/tricks.py`) moves there once it has won:

- *shuffled*: a random thousandth of the coordinates, with their momenta, is permuted among the ends after each step,
  which leaves the midpoint where it is (WASH, [arXiv 2405.17517](https://arxiv.org/abs/2405.17517));
- *pulled*: the ends move towards their mean (PAPA, [arXiv 2304.03094](https://arxiv.org/abs/2304.03094));
- *antithetic*: α and 1 − α in one batch; *middle*: the midpoint and one more place in every batch; *ends and middle*:
  the ends, too;
- *averaged*: each end is the mean of its last five epochs (LAWA, [arXiv 2209.14981](https://arxiv.org/abs/2209.14981));
- *sharpness-aware*: such steps in the last tenth (SAM, [arXiv 2010.01412](https://arxiv.org/abs/2010.01412)).

What has a meaning for one network is given to the standard network too.

## What the tables below say

- **How long places spread is a choice between right and wrong labels.** The sooner all of the line is trained, the
  better its midpoint withstands wrong labels, and the less accurate it is where labels are right. Ten epochs take
  nearly all that the paper's settings gain under noise, at a smaller price where there is none: the default. Who trusts
  the labels trains a more accurate midpoint with `--spread 1`.
- **In short runs no recipe is ahead of a standard network.** The paper's settings fall far behind it, the default a
  little, most on Fashion-MNIST. What a line gains comes once the images are fitted.
- **The rate of 0.2 is for runs of few steps.** There the midpoint is more accurate by it than by 0.1. In longer runs
  the two are level, 0.1 a little better calibrated: who trains long loses nothing with `--learning-rate 0.1`. A
  standard network, too, is more accurate by it in long runs with right labels. Against wrong labels it does little,
  and a line much.
- **Of the tricks none is worth its code**, by the one seed that most have. To train the midpoint in every step makes it
  no more accurate where labels are right, and takes a part of what a line gains where they are wrong. The ends as well,
  in four samples, are a choice like the spread: at 100 epochs ahead of all others under noise where places spread in
  10 epochs, most accurate with right labels where they spread over the whole run, and behind at 10 epochs.
  Shuffling, pulling and antithetic places cost at 10 epochs; averaging and sharpness-aware steps change little at any
  length.
"""

_FEW_STEPS = f"""\
## Few steps

Ten epochs of large batches are few steps. With batches of 128 an epoch of these data has 7 to 10, so that places spread
in 70 to 100 steps instead of 310 to 350; *spreading* takes the whole run, {FEW_STEPS_EPOCHS} epochs. Hence the default
takes at least 300 steps. Made with `--few-steps`:
"""

_GOALS = """\
## What the default is to reach

At equal passes the midpoint is to be no less accurate than a standard network, with a better likelihood and
calibration, the ends together more accurate and more likely, and with 40 % of the labels wrong the midpoint ahead by 3
points. From the test images and seeds of the section before, set by set; by a one-sided t-interval of 95 % over seeds:
"""

_COUNTS = """\
The same counted, for every line that was trained on these seeds:
"""

_CONFIRMATION = """\
A recipe that is chosen by figures is flattered by them. So what they choose is trained again with three other seeds and
measured on the test images, by `--confirm`."""
