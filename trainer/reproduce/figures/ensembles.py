"""Random ensembles, and whether nonlinearity is required: figures 11 and 12."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from subspace_serve.show.plot.series import Series, SeriesPanel
from trainer.reproduce.description import Claim, Figure, Get, Measurement, Results, Wanted
from trainer.reproduce.figures.common import (
    EARLY_STOPPING,
    INDEPENDENT,
    LINE,
    STANDARD,
    alone,
    along,
    as_accurate,
    draw_panels,
    ends_ensemble,
    less,
    level,
    more_accurate,
    over,
    over_places,
    plain,
    simplex,
    swa,
)
from trainer.reproduce.measures import RandomEnsembles
from trainer.reproduce.scales import Scale

STANDARD_NETWORK = "standard"


ENSEMBLE = 6
DRAWS = 3


def _random(scale: Scale) -> dict[str, Wanted]:
    members = min(ENSEMBLE, scale.most_endpoints)
    return {
        "simplex, random ensemble": Wanted(
            simplex(members), RandomEnsembles(members, DRAWS, scale.test_images, scale.calibration)
        ),
        "Snapshot Ensemble": Wanted({"subspace": "snapshot", "endpoints": members}, along(scale)),
        "SWA checkpoints, cyclic": Wanted(swa(members, "cyclic"), along(scale)),
        "SWA-Gaussian": Wanted({"subspace": "swag", "endpoints": members, "tail_schedule": "cyclic"}, along(scale)),
        "Fast Geometric Ensemble": Wanted({"subspace": "fge", "endpoints": members}, along(scale)),
        "line, two ends": Wanted(LINE, along(scale)),
        "two independent networks": Wanted(INDEPENDENT, along(scale)),
    }


def _ensemble(label: str) -> Get:
    return plain() if label == "simplex, random ensemble" else ends_ensemble()


def _draw_random(panels: Mapping[str, Results], target: Path) -> None:
    def build(title: str, results: Results) -> list[SeriesPanel]:
        ticks = dict(enumerate(results))
        series = [over("ensemble", list(ticks), [(runs, _ensemble(label)) for label, runs in results.items()])]
        return [SeriesPanel(title, series, "", "test accuracy (%)", ticks)]

    draw_panels(panels, target, build)


FIGURE_11 = Figure(
    "11",
    "Ensembles drawn from a simplex beside Snapshot, SWA, SWA-Gaussian and Fast Geometric Ensembles",
    runs=_random,
    draw=_draw_random,
    claims=lambda scale: [
        more_accurate(
            "Two models from the opposing ends of a line are more accurate together than an ensemble drawn at random "
            "from a simplex.",
            "line, two ends",
            ends_ensemble(),
            "simplex, random ensemble",
            plain(),
        ),
        *(
            Claim(
                f"A random ensemble from a simplex is more accurate than {other}.",
                less("simplex, random ensemble", plain(), other, ends_ensemble()),
                of_paper=False,
            )
            for other in ("Snapshot Ensemble", "SWA checkpoints, cyclic", "SWA-Gaussian")
        ),
    ],
)

BEYOND = 0.05


def _noise_and_beyond(scale: Scale) -> dict[str, Wanted]:
    wanted = {}
    for noise in (0.0, *scale.label_noise):
        noisy = {"label_noise": noise}
        wanted[f"line, midpoint at {noise:g}"] = Wanted(LINE | noisy, alone(scale))
        wanted[f"{STANDARD_NETWORK} at {noise:g}"] = Wanted(STANDARD | noisy, alone(scale))
        wanted[f"early stopping at {noise:g}"] = Wanted(EARLY_STOPPING | noisy, alone(scale))
    wanted["long line"] = Wanted(LINE, along(scale, BEYOND), scale.long)
    wanted["two networks"] = Wanted(INDEPENDENT, along(scale))
    return wanted


def _draw_noise_and_beyond(panels: Mapping[str, Results], target: Path) -> None:
    def build(title: str, results: Results) -> list[SeriesPanel]:
        noises = sorted({float(label.rsplit(" at ", 1)[1]) for label in results if " at " in label})
        left: list[Series] = [
            over(who, [100 * n for n in noises], [(results[f"{who} at {n:g}"], plain()) for n in noises])
            for who in ("line, midpoint", STANDARD_NETWORK, "early stopping")
        ]
        long_line: Sequence[Measurement] = results["long line"]
        right = [
            over_places("line trained longer", long_line, "metrics", "accuracy", "--"),
            over_places("line trained longer", long_line, "ensemble", "accuracy", "-"),
            level(STANDARD_NETWORK, results[f"{STANDARD_NETWORK} at 0"], plain()),
            level("two independent networks", results["two networks"], ends_ensemble(), "-."),
        ]
        return [
            SeriesPanel(f"{title}: label noise", left, "label noise (%)", "test accuracy (%)"),
            SeriesPanel(f"{title}: beyond the ends", right, "α", "test accuracy (%)"),
        ]

    draw_panels(panels, target, build)


def _end_pair(kind: str) -> Get:
    """Return what gives the accuracy at -0.05: of the model, or with its opposite."""
    return lambda measured: measured["points"][0][kind]["accuracy"]


def _single_ends(results: Results) -> list[float]:
    """Return by how much the better of the two models beyond the ends stays below standard training."""
    return [
        standard["accuracy"] - max(line["points"][index]["metrics"]["accuracy"] for index in (0, -1))
        for standard, line in zip(results[f"{STANDARD_NETWORK} at 0"], results["long line"], strict=True)
    ]


FIGURE_12 = Figure(
    "12",
    "A line's midpoint under label noise; models a little beyond the ends of a line trained longer",
    runs=_noise_and_beyond,
    draw=_draw_noise_and_beyond,
    claims=lambda scale: [
        *(
            more_accurate(
                f"At {100 * noise:g} % label noise a line's midpoint is more accurate than {other}.",
                f"line, midpoint at {noise:g}",
                plain(),
                f"{other} at {noise:g}",
                plain(),
            )
            for noise in scale.label_noise
            for other in (STANDARD_NETWORK, "early stopping")
        ),
        Claim(
            "Models at α = −0.05 and 1.05 are each no more accurate than standard training …",
            _single_ends,
            strict=False,
        ),
        as_accurate(
            "… and yet together at least as accurate as two independent networks.",
            "long line",
            _end_pair("ensemble"),
            "two networks",
            ends_ensemble(),
        ),
    ],
    panels=("imagenet-wide",),
)

FIGURES = (FIGURE_11, FIGURE_12)
