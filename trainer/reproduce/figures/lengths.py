"""The effect of the length of training: figure 10, and beyond it ensembles and the default recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from subspace_serve.show.plot.series import SeriesPanel
from trainer.reproduce.description import Case, Claim, Figure, Results, Settings, Wanted
from trainer.reproduce.figures.common import (
    ACCURACY,
    CLOSE,
    INDEPENDENT,
    LINE,
    RECOMMENDED,
    STANDARD,
    Get,
    ends,
    midpoint,
    over_cases,
)
from trainer.reproduce.measures import Along
from trainer.reproduce.scales import Scale

ONE_NETWORK, PAPER, DEFAULT, TWO_NETWORKS = "standard", "line", "line, default recipe", "two independent networks"
ENDS_AND_MIDDLE = 3

PAPERS: dict[str, Settings] = {ONE_NETWORK: STANDARD, PAPER: LINE}
BEYOND: dict[str, Settings] = {DEFAULT: RECOMMENDED, TWO_NETWORKS: INDEPENDENT}
"""Methods that the paper's figure does not have."""

CALLED = {PAPER: "line", DEFAULT: "line of the default recipe"}
"""What claims call the lines."""

_ece = partial(midpoint, metric="ece")


def _at(length: float) -> str:
    return f"At {length:g} × the epochs,"


def _runs(scale: Scale) -> dict[Case, Wanted]:
    measure = Along(ENDS_AND_MIDDLE, scale.test_images, scale.calibration)
    methods = PAPERS | (BEYOND if scale.beyond_paper else {})
    return {
        Case(name, length=length): Wanted(settings, measure)
        for length in scale.lengths
        for name, settings in methods.items()
    }


def _claims(scale: Scale, results: Results) -> Iterator[Claim]:
    shortest, *longer = scale.lengths

    def lead(who: str, length: float, get: Get = midpoint, other: str = ONE_NETWORK) -> np.ndarray:
        return get(results[Case(who, length=length)]) - get(results[Case(other, length=length)])

    def as_good_as_standard(who: str, lengths: Sequence[float], of_paper: bool) -> Iterator[Claim]:
        for length in lengths:
            yield Claim(
                f"{_at(length)} the midpoint of a {CALLED[who]} is at least as accurate as standard training.",
                lead(who, length),
                strict=False,
                of_paper=of_paper,
            )

    yield Claim(
        f"{_at(shortest)} the midpoint of a line falls below standard training.",
        -lead(PAPER, shortest),
    )
    yield from as_good_as_standard(PAPER, longer, of_paper=True)
    for length in scale.lengths:
        yield Claim(
            f"{_at(length)} the midpoint of a line is better calibrated than standard training.",
            -lead(PAPER, length, _ece),
            "points of ECE",
        )
    if scale.beyond_paper:
        yield from as_good_as_standard(DEFAULT, scale.lengths, of_paper=False)
        for who in (PAPER, DEFAULT):
            for length in scale.lengths:
                yield Claim(
                    f"{_at(length)} the ends of a {CALLED[who]} together come within half a point of two independent "
                    "networks.",
                    lead(who, length, ends, TWO_NETWORKS),
                    margin=CLOSE,
                    strict=False,
                    of_paper=False,
                )
    longest = scale.lengths[-1]
    yield Claim(
        f"A line's midpoint gains on standard training with length: its lead at {longest:g} less that at {shortest:g}.",
        lead(PAPER, longest) - lead(PAPER, shortest),
    )


def _picture(title: str, results: Results) -> list[SeriesPanel]:
    def panel(what: str, methods: Sequence[str], get: Get, y_label: str) -> SeriesPanel:
        there = [name for name in methods if any(case.name == name for case in results)]
        series = [over_cases(name, results, get, lambda case: case.length) for name in there]
        return SeriesPanel(f"{title}: {what}", series, "length of training (multiples)", y_label)

    single = (ONE_NETWORK, PAPER, DEFAULT)
    panels = [panel("midpoint", single, midpoint, ACCURACY), panel("midpoint", single, _ece, "calibration error (%)")]
    if any(case.name in BEYOND for case in results):
        panels.append(panel("ends' ensemble", (PAPER, DEFAULT, TWO_NETWORKS), ends, ACCURACY))
    return panels


FIGURE_10 = Figure(
    "10",
    "Accuracy and calibration of a line's midpoint by length of training",
    _runs,
    _claims,
    _picture,
    panels=("imagenet",),
    note="The trainer's default recipe (rate 0.2) and ensembles, where they are shown, are not in the paper's figure.",
)

FIGURES = (FIGURE_10,)
