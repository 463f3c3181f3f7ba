"""How a subspace's shape develops while it is trained: figures 3, 15, 16 and 17, and the planes of figure 2."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from subspace_serve.show.plot.plane import plot_planes
from subspace_serve.show.plot.series import Series, SeriesPanel
from trainer.reproduce.description import Case, Claim, Figure, Measurement, Results, Runs, Wanted
from trainer.reproduce.figures.common import (
    CURVE,
    INDEPENDENT,
    LINE,
    Get,
    along,
    over,
    simplex,
    total_variation,
)
from trainer.reproduce.measures import Dynamics, OnPlane
from trainer.reproduce.scales import Scale

L2, COSINE = "endpoint_l2", "endpoint_cosine_squared"
_KINDS = {L2: "L2 distance", COSINE: "squared cosine similarity"}


def _last(runs: Runs, key: str) -> np.ndarray:
    """Return a number of the last epoch."""
    return np.array([run["epochs"][-1][key] for run in runs])


def _over_epochs(title: str, results: Results) -> list[SeriesPanel]:
    def series(case: Case, runs: Runs, key: str) -> Series:
        values = [[record[key] for record in run["epochs"]] for run in runs]
        return Series(str(case), values, [record["epoch"] for record in runs[0]["epochs"]])

    return [
        SeriesPanel(title, [series(case, runs, key) for case, runs in results.items()], "epoch", name)
        for key, name in _KINDS.items()
    ]


def _line_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    without, regularised = results[Case(beta=0.0)], results[Case(beta=1.0)]
    yield Claim(
        "With β = 1 the endpoints are nearly orthogonal at the end of training (cos² below 0.05).",
        0.05 - _last(regularised, COSINE),
        "(0.05 less cos²)",
        1,
    )
    yield Claim(
        "With β = 0 they are more alike than with β = 1.",
        _last(without, COSINE) - _last(regularised, COSINE),
        "of cos²",
        1,
    )
    yield Claim(
        "With β = 1 they end farther apart than with β = 0.", _last(regularised, L2) - _last(without, L2), "of L2", 1
    )


FIGURE_3 = Figure(
    "3",
    "L2 distance and squared cosine similarity of a line's endpoints through training",
    lambda scale: {Case(beta=beta): Wanted(LINE, Dynamics()) for beta in (0.0, 1.0)},
    _line_claims,
    _over_epochs,
    panels=("cifar10", "imagenet"),
)


def _initialisation_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    for beta in (0.0, 1.0):
        shared, independent = (_last(results[Case(how, beta=beta)], L2) for how in ("shared", "independent"))
        yield Claim(
            f"With β = {beta:g} a shared initialisation ends within a tenth of the L2 distance of independent ones.",
            0.1 - abs(shared / independent - 1),
            "(0.1 less the relative difference)",
            1,
        )


FIGURE_15 = Figure(
    "15",
    "The same when both endpoints start from one initialisation",
    lambda scale: {
        Case(how, beta=beta): Wanted(LINE | {"initialisation": how}, Dynamics())
        for beta in (0.0, 1.0)
        for how in ("independent", "shared")
    },
    _initialisation_claims,
    _over_epochs,
)


def _simplexes(scale: Scale) -> dict[Case, Wanted]:
    return {
        Case("simplex", size=m, beta=beta): Wanted(simplex(m), Dynamics())
        for beta in (0.0, 1.0)
        for m in sorted({2, 3, scale.sizes[-1]})
    }


def _simplexes_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    most = scale.sizes[-1]
    two, many = results[Case("simplex", size=2, beta=1.0)], results[Case("simplex", size=most, beta=1.0)]
    yield Claim(
        f"The mean distance between endpoints is smaller with m = {most} than with m = 2.",
        _last(two, L2) - _last(many, L2),
        "of L2",
        1,
    )
    yield Claim(
        f"Closeness is penalised less for larger m: the mean cos² grows from m = 2 to m = {most}.",
        _last(many, COSINE) - _last(two, COSINE),
        "of cos²",
        1,
    )


def _simplexes_picture(title: str, results: Results) -> list[SeriesPanel]:
    def series(beta: float, key: str) -> Series:
        sizes = {case.size or 0: runs for case, runs in results.items() if case.beta == beta}
        return over(f"beta = {beta:g}", sizes, [_last(runs, key) for runs in sizes.values()], factor=1)

    return [
        SeriesPanel(title, [series(beta, key) for beta in (0.0, 1.0)], "endpoints m", f"mean {name}")
        for key, name in _KINDS.items()
    ]


FIGURE_16 = Figure(
    "16",
    "Mean L2 distance and squared cosine similarity of the endpoints of simplexes",
    _simplexes,
    _simplexes_claims,
    _simplexes_picture,
)

TWO_NETWORKS = Case("independent")


def _distance(runs: Runs, kind: str) -> np.ndarray:
    return np.array([run["endpoint_distances"][0][kind] for run in runs])


def _ends_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    without, regularised = results[Case("line", beta=0.0)], results[Case("line", beta=1.0)]
    yield Claim(
        "β = 1 gives ends that answer more differently than β = 0 (total variation).",
        total_variation(regularised) - total_variation(without),
        "of total variation",
        1,
    )
    yield Claim(
        "β = 1 gives ends that lie farther apart than β = 0 (L2 distance).",
        _distance(regularised, "l2") - _distance(without, "l2"),
        "of L2",
        1,
    )
    yield Claim(
        "Two independent networks answer more differently still.",
        total_variation(results[TWO_NETWORKS]) - total_variation(regularised),
        "of total variation",
        1,
        of_paper=False,
    )


def _ends_picture(title: str, results: Results) -> list[SeriesPanel]:
    gets: dict[str, Get] = {
        "total variation": total_variation,
        "L2 distance": partial(_distance, kind="l2"),
        "cos^2": partial(_distance, kind="cosine_squared"),
    }
    ticks = {index: str(case) for index, case in enumerate(results)}
    return [
        SeriesPanel(
            f"{title}: {name}",
            [over("two networks", ticks, [get(runs) for runs in results.values()], factor=1)],
            "",
            name,
            ticks,
        )
        for name, get in gets.items()
    ]


FIGURE_17 = Figure(
    "17",
    "A line's ends beside two independent networks: total variation, L2 distance, cosine",
    lambda scale: (
        {Case("line", beta=beta): Wanted(LINE, along(scale)) for beta in (0.0, 1.0, 2.0)}
        | {TWO_NETWORKS: Wanted(INDEPENDENT, along(scale))}
    ),
    _ends_claims,
    _ends_picture,
)


def _planes(scale: Scale) -> dict[Case, Wanted]:
    measure = OnPlane(scale.plane, scale.plane_images, scale.calibration)
    beside_standard = OnPlane(scale.plane, scale.plane_images, scale.calibration, standard=True)
    return {
        Case("curve"): Wanted(CURVE, measure),
        Case("simplex"): Wanted(simplex(3), measure),
        Case("line and a standard network"): Wanted(LINE, beside_standard),
    }


def _planes_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    def excess(run: Measurement) -> float:
        """Return the mean error at the grid's corners less that at the three weight vectors."""
        corners = [run["error"][i][j] for i in (0, -1) for j in (0, -1)]
        return sum(corners) / 4 - sum(vector["error"] for vector in run["vectors"]) / 3

    for name in ("curve", "simplex"):
        yield Claim(
            f"The plane of the {name} has its low errors around the trained weights: they err less than the corners of "
            "the picture.",
            np.array([excess(run) for run in results[Case(name)]]),
        )


FIGURE_2 = Figure(
    "2",
    "Test error on the planes of a curve, a simplex and a line",
    _planes,
    _planes_claims,
    lambda title, results: [(str(case), runs[0]) for case, runs in results.items()],
    seeds=1,
    note="One seed: a picture.",
    plot=lambda planes, target: plot_planes(dict(planes), target),
)

FIGURES = (FIGURE_2, FIGURE_3, FIGURE_15, FIGURE_16, FIGURE_17)
