"""Networks that share the beginning of their training: figure 21 (Frankle et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from subspace_serve.show.plot.series import SeriesPanel
from trainer.reproduce.description import Claim, Figure, Results, Wanted
from trainer.reproduce.figures.common import STANDARD, alone, draw_panels, level, over, plain
from trainer.reproduce.measures import Branches
from trainer.reproduce.scales import Scale

MEMBERS = 5
STANDARD_NETWORK = "standard"
MIXTURES = {"global": "random mixture, global", "layerwise": "layerwise", "weightwise": "per weight"}


def _members(scale: Scale) -> int:
    return min(MEMBERS, scale.most_endpoints)


def _branches(scale: Scale) -> dict[str, Wanted]:
    members = _members(scale)
    wanted = {STANDARD_NETWORK: Wanted(STANDARD, alone(scale))}
    for shared in scale.shared:
        settings = {"subspace": "ensemble", "endpoints": members, "shared": shared, "initialisation": "shared"}
        for count, mixtures in ((2, scale.mixtures), (members, 0)):
            measure = Branches(count, mixtures, scale.test_images, scale.calibration)
            wanted[f"{count} from {shared:g}"] = Wanted(settings, measure)
    return wanted


def _draw(panels: Mapping[str, Results], target: Path) -> None:
    def build(title: str, results: Results) -> list[SeriesPanel]:
        counts = sorted({int(label.split()[0]) for label in results if label != STANDARD_NETWORK})
        shared = sorted({float(label.split()[2]) for label in results if label != STANDARD_NETWORK})
        places = [100 * share for share in shared]
        standard = level(STANDARD_NETWORK, results[STANDARD_NETWORK], plain())

        def curve(label: str, count: int, key: str):
            return over(label, places, [(results[f"{count} from {share:g}"], plain(key)) for share in shared])

        parts = [
            SeriesPanel(
                f"{title}: {count} networks",
                [curve("weight average", count, "weight_average"), curve("ensemble", count, "ensemble"), standard],
                "shared epochs (%)",
                "test accuracy (%)",
            )
            for count in counts
        ]
        mixed = [curve(name, 2, key) for key, name in MIXTURES.items()]
        middle = SeriesPanel(f"{title}: mixtures of 2", [*mixed, standard], "shared epochs (%)", "test accuracy (%)")
        return [parts[0], middle, *parts[1:]]

    draw_panels(panels, target, build)


def _average_less_standard(count: int, shared: float):
    def difference(results: Results) -> list[float]:
        return [
            branches["weight_average"] - standard["accuracy"]
            for branches, standard in zip(results[f"{count} from {shared:g}"], results[STANDARD_NETWORK], strict=True)
        ]

    return difference


def _weightwise_less_standard(shared: float):
    def difference(results: Results) -> list[float]:
        runs = zip(results[f"2 from {shared:g}"], results[STANDARD_NETWORK], strict=True)
        return [branches["weightwise"] - standard["accuracy"] for branches, standard in runs]

    return difference


def _claims(scale: Scale) -> list[Claim]:
    late, count = [share for share in scale.shared if share >= 0.5], _members(scale)
    claims = [
        Claim(
            "Averaging the weights of networks that share nothing but their initialisation fails (at least 20 points "
            "below standard training).",
            lambda results: [-0.2 - value for value in _average_less_standard(2, 0.0)(results)],
            "points beyond 20",
        )
    ]
    for members in sorted({2, count}):
        claims += [
            Claim(
                f"The average of {members} networks that share {100 * share:g} % of their epochs is at least as "
                "accurate as standard training.",
                _average_less_standard(members, share),
                strict=False,
            )
            for share in scale.shared
            if share > 0
        ]
    claims += [
        Claim(
            f"The less is shared, the better the output-space ensemble of {count}: nothing against "
            f"{100 * scale.shared[-1]:g} %.",
            lambda results: [
                a["ensemble"] - b["ensemble"]
                for a, b in zip(results[f"{count} from 0"], results[f"{count} from {scale.shared[-1]:g}"], strict=True)
            ],
        )
    ]
    claims += [
        Claim(
            f"With {100 * share:g} % shared, random mixtures weight by weight come within half a point of standard.",
            _weightwise_less_standard(share),
            margin=0.005,
        )
        for share in late
    ]
    return claims


FIGURE_21 = Figure(
    "21",
    f"Networks that share their first epochs: averages in weight and output space of 2 and {MEMBERS}, random mixtures",
    runs=_branches,
    draw=_draw,
    claims=_claims,
)

FIGURES = (FIGURE_21,)
