"""How the comparison moves with the length of training: figure 10, and beyond it ensembles and the default recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from subspace_serve.show.plot.series import SeriesPanel
from trainer.methods import RECIPE
from trainer.reproduce.description import Claim, Figure, Get, Results, Settings, Wanted
from trainer.reproduce.figures.common import (
    INDEPENDENT,
    LINE,
    STANDARD,
    as_accurate,
    draw_panels,
    ends_ensemble,
    less,
    midpoint,
    over,
)
from trainer.reproduce.measures import Along
from trainer.reproduce.scales import Scale

STANDARD_NETWORK, PAPER, DEFAULT, TWO = "standard", "line", "line, default recipe", "two independent networks"
ENDS_AND_MIDDLE = 3
CLOSE = 0.005

PAPERS: dict[str, Settings] = {STANDARD_NETWORK: STANDARD, PAPER: LINE}
BEYOND: dict[str, Settings] = {DEFAULT: LINE | RECIPE, TWO: INDEPENDENT}
"""What the paper's figure does not have."""


def _runs(scale: Scale) -> dict[str, Wanted]:
    measure = Along(ENDS_AND_MIDDLE, scale.test_images, scale.calibration)
    methods = PAPERS | (BEYOND if scale.beyond_figure_10 else {})
    return {
        f"{name} x {length:g}": Wanted(settings, measure, length)
        for length in scale.lengths
        for name, settings in methods.items()
    }


def _draw(panels: Mapping[str, Results], target: Path) -> None:
    def build(title: str, results: Results) -> list[SeriesPanel]:
        lengths = sorted({float(label.rsplit(" x ", 1)[1]) for label in results})
        beyond = f"{DEFAULT} x {lengths[0]:g}" in results

        def panel(what: str, gets: Mapping[str, Get], y_label: str) -> SeriesPanel:
            series = [
                over(who, lengths, [(results[f"{who} x {n:g}"], get) for n in lengths]) for who, get in gets.items()
            ]
            return SeriesPanel(f"{title}: {what}", series, "length of training (multiples)", y_label)

        alone = [STANDARD_NETWORK, PAPER, *([DEFAULT] if beyond else [])]
        parts = [
            panel("midpoint", {who: midpoint() for who in alone}, "test accuracy (%)"),
            panel("midpoint", {who: midpoint("ece") for who in alone}, "calibration error (%)"),
        ]
        if beyond:
            parts.append(
                panel("ends' ensemble", {who: ends_ensemble() for who in (PAPER, DEFAULT, TWO)}, "test accuracy (%)")
            )
        return parts

    draw_panels(panels, target, build)


def _claims(scale: Scale) -> list[Claim]:
    shortest, *longer = scale.lengths
    claims = [
        Claim(
            f"Trained {shortest:g} times as long, the midpoint of a line falls below standard training.",
            less(f"{STANDARD_NETWORK} x {shortest:g}", midpoint(), f"{PAPER} x {shortest:g}"),
        )
    ]
    claims += [_as_good_as_standard(PAPER, length) for length in longer]
    claims += [
        Claim(
            f"Trained {length:g} times as long, the midpoint of a line is better calibrated than standard training.",
            less(f"{STANDARD_NETWORK} x {length:g}", midpoint("ece"), f"{PAPER} x {length:g}"),
            "points of ECE",
        )
        for length in scale.lengths
    ]
    if scale.beyond_figure_10:
        claims += [replace(_as_good_as_standard(DEFAULT, length), of_paper=False) for length in scale.lengths]
        claims += [
            Claim(
                f"Trained {length:g} times as long, the ends of a {who} come together within half a point of two "
                "independent networks.",
                less(f"{who} x {length:g}", ends_ensemble(), f"{TWO} x {length:g}"),
                margin=CLOSE,
                strict=False,
                of_paper=False,
            )
            for who in (PAPER, DEFAULT)
            for length in scale.lengths
        ]
    first, last = scale.lengths[0], scale.lengths[-1]
    claims.append(
        Claim(
            f"A line's midpoint gains on standard training with length: its lead at {last:g} less that at {first:g}.",
            lambda results: [
                later - earlier for later, earlier in zip(_lead(results, last), _lead(results, first), strict=True)
            ],
        )
    )
    return claims


def _as_good_as_standard(who: str, length: float) -> Claim:
    return as_accurate(
        f"Trained {length:g} times as long, the midpoint of a {who} is at least as accurate as standard training.",
        f"{who} x {length:g}",
        midpoint(),
        f"{STANDARD_NETWORK} x {length:g}",
        midpoint(),
    )


def _lead(results: Results, length: float) -> list[float]:
    return less(f"{PAPER} x {length:g}", midpoint(), f"{STANDARD_NETWORK} x {length:g}")(results)


FIGURE_10 = Figure(
    "10",
    "Accuracy and calibration of a line's midpoint by length of training",
    runs=_runs,
    draw=_draw,
    claims=_claims,
    panels=("imagenet",),
    note="The trainer's default recipe (rate 0.2) and ensembles, where they are shown, are not in the paper's figure.",
)

FIGURES = (FIGURE_10,)
