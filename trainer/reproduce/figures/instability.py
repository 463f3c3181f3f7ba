"""Networks that share the beginning of their training: figure 21 (Frankle et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from subspace_serve.show.plot.series import Series, SeriesPanel
from trainer.reproduce.description import Case, Claim, Figure, Results, Wanted
from trainer.reproduce.figures.common import ACCURACY, CLOSE, STANDARD, alone, level, over, single
from trainer.reproduce.measures import Branches
from trainer.reproduce.scales import Scale

MEMBERS = 5
ONE_NETWORK = Case("standard")
MIXTURES = {"global": "random mixture, global", "layerwise": "layerwise", "weightwise": "per weight"}

_average = partial(single, metric="weight_average")
_ensemble = partial(single, metric="ensemble")


def _members(scale: Scale) -> int:
    return min(MEMBERS, scale.sizes[-1])


def _branches(scale: Scale) -> dict[Case, Wanted]:
    members = _members(scale)
    settings = {"subspace": "ensemble", "endpoints": members, "initialisation": "shared"}
    wanted = {ONE_NETWORK: Wanted(STANDARD, alone(scale))}
    for shared in scale.shared:
        for count, mixtures in ((2, scale.mixtures), (members, 0)):
            measure = Branches(count, mixtures, scale.test_images, scale.calibration)
            wanted[Case(size=count, shared=shared)] = Wanted(settings, measure)
    return wanted


def _claims(scale: Scale, results: Results) -> Iterator[Claim]:
    standard, members, last = single(results[ONE_NETWORK]), _members(scale), scale.shared[-1]
    yield Claim(
        "Averaging the weights of networks that share nothing but their initialisation fails (at least 20 points below "
        "standard training).",
        -0.2 - (_average(results[Case(size=2, shared=0)]) - standard),
        "points beyond 20",
    )
    for count in sorted({2, members}):
        for share in scale.shared:
            if share > 0:
                yield Claim(
                    f"The average of {count} networks that share {100 * share:g} % of their epochs is at least as "
                    "accurate as standard training.",
                    _average(results[Case(size=count, shared=share)]) - standard,
                    strict=False,
                )
    nothing, much = (_ensemble(results[Case(size=members, shared=share)]) for share in (0, last))
    text = f"The less is shared, the better the output-space ensemble of {members}: nothing against {100 * last:g} %."
    yield Claim(text, nothing - much)
    for share in scale.shared:
        if share >= 0.5:
            yield Claim(
                f"With {100 * share:g} % shared, random mixtures weight by weight come within half a point of "
                "standard.",
                single(results[Case(size=2, shared=share)], "weightwise") - standard,
                margin=CLOSE,
            )


def _picture(title: str, results: Results) -> list[SeriesPanel]:
    def curve(name: str, count: int, key: str) -> Series:
        branches = {case.shared or 0: runs for case, runs in results.items() if case.size == count}
        return over(name, [100 * share for share in branches], [single(runs, key) for runs in branches.values()])

    def panel(what: str, series: list[Series]) -> SeriesPanel:
        standard = level(str(ONE_NETWORK), single(results[ONE_NETWORK]))
        return SeriesPanel(f"{title}: {what}", [*series, standard], "shared epochs (%)", ACCURACY)

    two, *more = [
        panel(
            f"{count} networks",
            [curve("weight average", count, "weight_average"), curve("ensemble", count, "ensemble")],
        )
        for count in sorted({case.size for case in results if case.size is not None})
    ]
    return [two, panel("mixtures of 2", [curve(name, 2, key) for key, name in MIXTURES.items()]), *more]


FIGURE_21 = Figure(
    "21",
    f"Networks that share their first epochs: averages in weight and output space of 2 and {MEMBERS}, random mixtures",
    _branches,
    _claims,
    _picture,
)

FIGURES = (FIGURE_21,)
