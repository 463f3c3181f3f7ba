"""How a subspace's shape develops while it is trained: figures 3, 15, 16 and 17, and the planes of figure 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from subspace_serve.show.plot.plane import plot_planes
from subspace_serve.show.plot.series import Series, SeriesPanel
from trainer.reproduce.description import Claim, Figure, Measurement, Results, Wanted
from trainer.reproduce.figures.common import (
    CURVE,
    INDEPENDENT,
    LINE,
    along,
    draw_panels,
    less,
    over,
    simplex,
    total_variation,
)
from trainer.reproduce.measures import Dynamics, OnPlane
from trainer.reproduce.scales import Scale

_KINDS = {"endpoint_l2": "L2 distance", "endpoint_cosine_squared": "squared cosine similarity"}


def _last(key: str):
    return lambda measured: measured["epochs"][-1][key]


def _over_epochs(title: str, results: Results, key: str) -> SeriesPanel:
    series = [
        Series(
            label,
            [[record[key] for record in run["epochs"]] for run in runs],
            [record["epoch"] for record in runs[0]["epochs"]],
        )
        for label, runs in results.items()
    ]
    return SeriesPanel(title, series, "epoch", _KINDS[key])


def _draw_dynamics(panels: Mapping[str, Results], target: Path) -> None:
    draw_panels(panels, target, lambda title, results: [_over_epochs(title, results, key) for key in _KINDS])


FIGURE_3 = Figure(
    "3",
    "L2 distance and squared cosine similarity of a line's endpoints through training",
    runs=lambda scale: {
        "beta = 0": Wanted(LINE | {"beta": 0.0}, Dynamics()),
        "beta = 1": Wanted(LINE, Dynamics()),
    },
    draw=_draw_dynamics,
    claims=lambda scale: [
        Claim(
            "With β = 1 the endpoints are nearly orthogonal at the end of training (cos² below 0.05).",
            lambda results: [0.05 - _last("endpoint_cosine_squared")(run) for run in results["beta = 1"]],
            "(0.05 less cos²)",
            1,
        ),
        Claim(
            "With β = 0 they are more alike than with β = 1.",
            less("beta = 0", _last("endpoint_cosine_squared"), "beta = 1"),
            "of cos²",
            1,
        ),
        Claim(
            "With β = 1 they end farther apart than with β = 0.",
            less("beta = 1", _last("endpoint_l2"), "beta = 0"),
            "of L2",
            1,
        ),
    ],
    panels=("cifar10", "imagenet"),
)


def _within_a_tenth(beta: float):
    """Return what gives a tenth less the relative difference of the last distances, shared against independent."""

    def difference(results: Results) -> list[float]:
        runs = zip(results[f"shared, beta = {beta:g}"], results[f"independent, beta = {beta:g}"], strict=True)
        return [0.1 - abs(_last("endpoint_l2")(a) / _last("endpoint_l2")(b) - 1) for a, b in runs]

    return difference


FIGURE_15 = Figure(
    "15",
    "The same when both endpoints start from one initialisation",
    runs=lambda scale: {
        f"{name}, beta = {beta:g}": Wanted(LINE | {"beta": beta, "initialisation": how}, Dynamics())
        for beta in (0.0, 1.0)
        for name, how in (("independent", "independent"), ("shared", "shared"))
    },
    draw=_draw_dynamics,
    claims=lambda scale: [
        Claim(
            f"With β = {beta:g} a shared initialisation ends within a tenth of the L2 distance of independent ones.",
            _within_a_tenth(beta),
            "(0.1 less the relative difference)",
            1,
        )
        for beta in (0.0, 1.0)
    ],
)


def _simplexes(scale: Scale) -> dict[str, Wanted]:
    return {
        f"m = {m}, beta = {beta:g}": Wanted(simplex(m, beta=beta), Dynamics())
        for beta in (0.0, 1.0)
        for m in sorted({2, 3, scale.most_endpoints})
    }


def _draw_simplexes(panels: Mapping[str, Results], target: Path) -> None:
    def build(title: str, results: Results) -> list[SeriesPanel]:
        sizes = sorted({int(label.split()[2].rstrip(",")) for label in results})
        return [
            SeriesPanel(
                title,
                [
                    over(
                        f"beta = {beta}",
                        sizes,
                        [(results[f"m = {m}, beta = {beta}"], _last(key)) for m in sizes],
                        factor=1,
                    )
                    for beta in (0, 1)
                ],
                "endpoints m",
                f"mean {name}",
            )
            for key, name in _KINDS.items()
        ]

    draw_panels(panels, target, build)


FIGURE_16 = Figure(
    "16",
    "Mean L2 distance and squared cosine similarity of the endpoints of simplexes",
    runs=_simplexes,
    draw=_draw_simplexes,
    claims=lambda scale: [
        Claim(
            f"The mean distance between endpoints is smaller with m = {scale.most_endpoints} than with m = 2.",
            less("m = 2, beta = 1", _last("endpoint_l2"), f"m = {scale.most_endpoints}, beta = 1"),
            "of L2",
            1,
        ),
        Claim(
            f"Closeness is penalised less for larger m: the mean cos² grows from m = 2 to m = {scale.most_endpoints}.",
            less(f"m = {scale.most_endpoints}, beta = 1", _last("endpoint_cosine_squared"), "m = 2, beta = 1"),
            "of cos²",
            1,
        ),
    ],
)


def _distance(kind: str):
    return lambda measured: measured["endpoint_distances"][0][kind]


def _draw_distances(panels: Mapping[str, Results], target: Path) -> None:
    gets = {"total variation": total_variation, "L2 distance": _distance("l2"), "cos^2": _distance("cosine_squared")}

    def build(title: str, results: Results) -> list[SeriesPanel]:
        ticks = dict(enumerate(map(str, results)))
        return [
            SeriesPanel(
                f"{title}: {name}",
                [over("two networks", list(ticks), [(runs, get) for runs in results.values()], factor=1)],
                "",
                name,
                ticks,
            )
            for name, get in gets.items()
        ]

    draw_panels(panels, target, build)


FIGURE_17 = Figure(
    "17",
    "A line's ends beside two independent networks: total variation, L2 distance, cosine",
    runs=lambda scale: {
        "line, beta = 0": Wanted(LINE | {"beta": 0.0}, along(scale)),
        "line, beta = 1": Wanted(LINE, along(scale)),
        "line, beta = 2": Wanted(LINE | {"beta": 2.0}, along(scale)),
        "independent": Wanted(INDEPENDENT, along(scale)),
    },
    draw=_draw_distances,
    claims=lambda scale: [
        Claim(
            "β = 1 gives ends that answer more differently than β = 0 (total variation).",
            less("line, beta = 1", total_variation, "line, beta = 0"),
            "of total variation",
            1,
        ),
        Claim(
            "β = 1 gives ends that lie farther apart than β = 0 (L2 distance).",
            less("line, beta = 1", _distance("l2"), "line, beta = 0"),
            "of L2",
            1,
        ),
        Claim(
            "Two independent networks answer more differently still.",
            less("independent", total_variation, "line, beta = 1"),
            "of total variation",
            1,
            of_paper=False,
        ),
    ],
)


def _planes(scale: Scale) -> dict[str, Wanted]:
    measure = OnPlane(scale.plane, scale.plane_images, scale.calibration)
    return {
        "curve": Wanted(CURVE, measure),
        "simplex": Wanted(simplex(3), measure),
        "line and a standard network": Wanted(
            LINE, OnPlane(scale.plane, scale.plane_images, scale.calibration, standard=True)
        ),
    }


def _draw_planes(panels: Mapping[str, Results], target: Path) -> None:
    planes = {
        f"{label} ({title})" if len(panels) > 1 else label: runs[0]
        for title, results in panels.items()
        for label, runs in results.items()
    }
    plot_planes(planes, target)


def _corner_excess(label: str):
    """Return what gives the mean error at the grid's corners less that at the three weight vectors."""

    def difference(results: Results) -> list[float]:
        return [_corners(run) - sum(v["error"] for v in run["vectors"]) / 3 for run in results[label]]

    return difference


def _corners(run: Measurement) -> float:
    errors: Sequence[Sequence[float]] = run["error"]
    return sum(errors[i][j] for i in (0, -1) for j in (0, -1)) / 4


FIGURE_2 = Figure(
    "2",
    "Test error on the planes of a curve, a simplex and a line",
    runs=_planes,
    draw=_draw_planes,
    claims=lambda scale: [
        Claim(
            f"The plane of the {label} has its low errors around the trained weights: they err less than the corners "
            "of the picture.",
            _corner_excess(label),
        )
        for label in ("curve", "simplex")
    ],
    seeds=1,
    note="One seed: a picture.",
)

FIGURES = (FIGURE_2, FIGURE_3, FIGURE_15, FIGURE_16, FIGURE_17)
