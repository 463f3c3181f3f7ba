"""Random ensembles, a line's midpoint under label noise, and networks beyond a line's ends: figures 11 and 12."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from subspace_serve.show.plot.series import SeriesPanel
from trainer.reproduce.description import Case, Claim, Figure, Results, Wanted
from trainer.reproduce.figures.common import (
    ACCURACY,
    EARLY_STOPPING,
    HELD_OUT,
    INDEPENDENT,
    LINE,
    RECOMMENDED,
    STANDARD,
    all_measured,
    alone,
    along,
    ends,
    level,
    noises,
    over,
    over_noise,
    over_places,
    simplex,
    single,
    swa,
)
from trainer.reproduce.measures import RandomEnsembles
from trainer.reproduce.scales import Scale

ENSEMBLE = 6
DRAWS = 3
RANDOM = Case("simplex, random ensemble")
TWO_ENDS = Case("line, two ends")


def _random(scale: Scale) -> dict[Case, Wanted]:
    members = min(ENSEMBLE, scale.sizes[-1])
    measure = RandomEnsembles(members, DRAWS, scale.test_images, scale.calibration)
    others = {
        "Snapshot Ensemble": {"subspace": "snapshot", "endpoints": members},
        "SWA checkpoints, cyclic": swa(members, "cyclic"),
        "SWA-Gaussian": {"subspace": "swag", "endpoints": members, "tail_schedule": "cyclic"},
        "Fast Geometric Ensemble": {"subspace": "fge", "endpoints": members},
        TWO_ENDS.name: LINE,
        "two independent networks": INDEPENDENT,
    }
    return {RANDOM: Wanted(simplex(members), measure)} | all_measured(others, along(scale))


def _random_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    yield Claim(
        "Two models from the opposing ends of a line are more accurate together than an ensemble drawn at random from "
        "a simplex.",
        ends(results[TWO_ENDS]) - single(results[RANDOM]),
    )
    for other in ("Snapshot Ensemble", "SWA checkpoints, cyclic", "SWA-Gaussian"):
        text = f"A random ensemble from a simplex is more accurate than {other}."
        yield Claim(text, single(results[RANDOM]) - ends(results[Case(other)]), of_paper=False)


def _random_picture(title: str, results: Results) -> list[SeriesPanel]:
    ticks = {index: str(case) for index, case in enumerate(results)}
    values = [single(runs) if case == RANDOM else ends(runs) for case, runs in results.items()]
    return [SeriesPanel(title, [over("ensemble", ticks, values)], "", ACCURACY, ticks)]


FIGURE_11 = Figure(
    "11",
    "Ensembles drawn from a simplex beside Snapshot, SWA, SWA-Gaussian and Fast Geometric Ensembles",
    _random,
    _random_claims,
    _random_picture,
)

BEYOND = 0.05
MIDPOINT, DEFAULT = "line, midpoint", "line, default recipe, midpoint"
NOISY = {MIDPOINT: LINE, "standard": STANDARD, "early stopping": EARLY_STOPPING}
LONG_LINE, TWO_NETWORKS = "line", Case("two networks")


def _noise_and_beyond(scale: Scale) -> dict[Case, Wanted]:
    methods = NOISY | ({DEFAULT: RECOMMENDED} if scale.beyond_paper else {})
    wanted = {
        Case(name, noise=noise): Wanted(settings | HELD_OUT, alone(scale))
        for noise in noises(scale)
        for name, settings in methods.items()
    }
    wanted[Case(LONG_LINE, length=scale.long)] = Wanted(LINE | HELD_OUT, along(scale, BEYOND))
    wanted[TWO_NETWORKS] = Wanted(INDEPENDENT | HELD_OUT, along(scale))
    return wanted


def _noise_and_beyond_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    for noise in scale.label_noise:
        for other in ("standard", "early stopping"):
            yield Claim(
                f"At {100 * noise:g} % label noise a line's midpoint is more accurate than {other}.",
                single(results[Case(MIDPOINT, noise=noise)]) - single(results[Case(other, noise=noise)]),
            )
        if scale.beyond_paper:
            yield Claim(
                f"At {100 * noise:g} % label noise the default recipe's midpoint is more accurate than standard.",
                single(results[Case(DEFAULT, noise=noise)]) - single(results[Case("standard", noise=noise)]),
                of_paper=False,
            )
    long_line = results[Case(LONG_LINE, length=scale.long)]
    better_end = [max(run["points"][end]["metrics"]["accuracy"] for end in (0, -1)) for run in long_line]
    yield Claim(
        "Models at α = −0.05 and 1.05 are each no more accurate than standard training …",
        single(results[Case("standard", noise=0.0)]) - np.array(better_end),
        strict=False,
    )
    together = np.array([run["points"][0]["ensemble"]["accuracy"] for run in long_line])
    yield Claim(
        "… and yet together at least as accurate as two independent networks.",
        together - ends(results[TWO_NETWORKS]),
        strict=False,
    )


def _noise_and_beyond_picture(title: str, results: Results) -> list[SeriesPanel]:
    long_line = next(runs for case, runs in results.items() if case.name == LONG_LINE)
    beyond = [
        over_places("line trained longer", long_line, "metrics", "--"),
        over_places("line trained longer", long_line, "ensemble", "-"),
        level("standard", single(results[Case("standard", noise=0.0)])),
        level("two independent networks", ends(results[TWO_NETWORKS]), "-."),
    ]
    shown = [name for name in (*NOISY, DEFAULT) if Case(name, noise=0.0) in results]
    return [
        over_noise(f"{title}: label noise", results, shown),
        SeriesPanel(f"{title}: beyond the ends", beyond, "α", ACCURACY),
    ]


FIGURE_12 = Figure(
    "12",
    "A line's midpoint under label noise; models a little beyond the ends of a line trained longer",
    _noise_and_beyond,
    _noise_and_beyond_claims,
    _noise_and_beyond_picture,
    panels=("imagenet-wide",),
)

FIGURES = (FIGURE_11, FIGURE_12)
