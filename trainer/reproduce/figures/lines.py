"""Accuracy of models and ensembles along one-dimensional subspaces: figures 4, 5, 6, 13 and 18."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from subspace_serve.show.plot.series import Series, SeriesPanel
from trainer.reproduce.description import Claim, Figure, Results, Settings, Wanted
from trainer.reproduce.figures.common import (
    CURVE,
    INDEPENDENT,
    LAYERWISE,
    LINE,
    STANDARD,
    along,
    as_accurate,
    draw_panels,
    ends_ensemble,
    less,
    level,
    midpoint,
    more_accurate,
    over_places,
    swa,
)
from trainer.reproduce.scales import Scale

SHAPES: dict[str, Settings] = {"line": LINE, "line, layerwise": LAYERWISE, "curve": CURVE}
CLOSE = 0.005
"""Half a percentage point: how near two accuracies are that the paper calls near."""

STANDARD_NETWORK = "standard network"
TWO_NETWORKS = "two independent networks"


def _one_panel(title: str, results: Results, kinds: Mapping[str, str], names: Mapping[str, str]) -> SeriesPanel:
    """Draw subspaces as the paper does: models dashed, ensembles solid, standard training dotted.

    `names` says under which name each run is drawn.
    """
    series: list[Series] = []
    for label, name in names.items():
        for kind, style in kinds.items():
            series.append(over_places(name, results[label], kind, "accuracy", style))
    if STANDARD_NETWORK in results:
        series.append(level(STANDARD_NETWORK, results[STANDARD_NETWORK], midpoint()))
    if TWO_NETWORKS in results and "ensemble" in kinds:
        series.append(level(TWO_NETWORKS, results[TWO_NETWORKS], ends_ensemble(), "-."))
    x_label = "α (dashed: models, solid: ensembles)" if len(kinds) > 1 else "α"
    return SeriesPanel(title, series, x_label, "test accuracy (%)")


def _draw(kinds: Mapping[str, str], groups: Mapping[str, Mapping[str, str]]):
    def draw(panels: Mapping[str, Results], target: Path) -> None:
        draw_panels(
            panels,
            target,
            lambda title, results: [
                _one_panel(f"{title}: {name}" if name else title, results, kinds, names)
                for name, names in groups.items()
            ],
        )

    return draw


MODELS, ENSEMBLES, BOTH = {"metrics": "--"}, {"ensemble": "-"}, {"metrics": "--", "ensemble": "-"}

FIGURE_4 = Figure(
    "4",
    "Accuracy of the models along lines and curves",
    runs=lambda scale: {
        name: Wanted(settings, along(scale)) for name, settings in {**SHAPES, STANDARD_NETWORK: STANDARD}.items()
    },
    draw=_draw(MODELS, {"": dict(zip(SHAPES, SHAPES, strict=True))}),
    claims=lambda scale: [
        as_accurate(
            f"The midpoint of a {name} is at least as accurate as standard training of the same length.",
            name,
            midpoint(),
            STANDARD_NETWORK,
            midpoint(),
        )
        for name in SHAPES
    ],
    panels=("cifar10", "tiny-imagenet", "tiny-imagenet-50"),
)

FIGURE_5 = Figure(
    "5",
    "Accuracy of P(α) and P(1 − α) averaged in output space",
    runs=lambda scale: {
        name: Wanted(settings, along(scale)) for name, settings in {**SHAPES, TWO_NETWORKS: INDEPENDENT}.items()
    },
    draw=_draw(ENSEMBLES, {"": dict(zip(SHAPES, SHAPES, strict=True))}),
    claims=lambda scale: [
        as_accurate(
            f"The ensemble of a {name}'s ends comes within half a point of two independently trained networks.",
            name,
            ends_ensemble(),
            TWO_NETWORKS,
            ends_ensemble(),
            margin=CLOSE,
        )
        for name in ("line", "curve")
    ],
    panels=("cifar10", "tiny-imagenet", "tiny-imagenet-50"),
)

BETAS = (0.0, 1.0, 2.0)


def _betas(scale: Scale) -> dict[str, Wanted]:
    wanted = {
        f"{name}, beta = {beta:g}": Wanted(settings | {"beta": beta}, along(scale))
        for name, settings in SHAPES.items()
        for beta in BETAS
    }
    return wanted | {
        STANDARD_NETWORK: Wanted(STANDARD, along(scale)),
        TWO_NETWORKS: Wanted(INDEPENDENT, along(scale)),
    }


FIGURE_6 = Figure(
    "6",
    "Models and ensembles for regularisation strengths β = 0, 1, 2",
    runs=_betas,
    draw=_draw(BOTH, {name: {f"{name}, beta = {beta:g}": f"β = {beta:g}" for beta in BETAS} for name in SHAPES}),
    claims=lambda scale: [
        more_accurate(
            "Regularisation makes the ensemble of a line's ends more accurate (β = 1 against β = 0).",
            "line, beta = 1",
            ends_ensemble(),
            "line, beta = 0",
            ends_ensemble(),
        ),
        more_accurate(
            "Regularisation makes the midpoint of a line more accurate (β = 1 against β = 0).",
            "line, beta = 1",
            midpoint(),
            "line, beta = 0",
            midpoint(),
        ),
        more_accurate(
            "Layerwise training gives a more accurate midpoint.",
            "line, layerwise, beta = 1",
            midpoint(),
            "line, beta = 1",
            midpoint(),
        ),
        more_accurate(
            "Layerwise training gives a less accurate ensemble.",
            "line, beta = 1",
            ends_ensemble(),
            "line, layerwise, beta = 1",
            ends_ensemble(),
        ),
    ],
    panels=("cifar10", "tiny-imagenet", "tiny-imagenet-50"),
)

SAMPLES: dict[str, Settings] = {"1 sample": {"samples": 1}, "2 samples": {"samples": 2}, "4 samples": {"samples": 4}}
SIMILARITY: dict[str, Settings] = {"2 samples, lambda = 1": {"samples": 2, "feature_similarity": 1.0}}


def _samples(scale: Scale) -> dict[str, Wanted]:
    return {
        f"{name}, {variant}": Wanted(SHAPES[name] | settings, along(scale))
        for name in ("line", "curve")
        for variant, settings in {**SAMPLES, **SIMILARITY}.items()
    }


FIGURE_13 = Figure(
    "13",
    "Several samples of α a batch, and the feature-similarity term",
    runs=_samples,
    draw=_draw(
        BOTH,
        {
            name: {f"{name}, {variant}": variant.replace("lambda", "λ") for variant in (*SAMPLES, *SIMILARITY)}
            for name in ("line", "curve")
        },
    ),
    claims=lambda scale: [
        *(
            more_accurate(
                f"{count} samples improve the {what} of a {name}.",
                f"{name}, {count} samples",
                get,
                f"{name}, 1 sample",
                get,
            )
            for name in ("line", "curve")
            for count in (2, 4)
            for what, get in (("midpoint", midpoint()), ("ends' ensemble", ends_ensemble()))
        ),
        *(
            Claim(
                f"Feature similarity (λ = 1) improves the {what} of a {name}.",
                less(f"{name}, 2 samples, lambda = 1", get, f"{name}, 2 samples"),
            )
            for name in ("line", "curve")
            for what, get in (("midpoint", midpoint()), ("ends' ensemble", ends_ensemble()))
        ),
    ],
    panels=("cifar10", "tiny-imagenet"),
)

FIGURE_18 = Figure(
    "18",
    "Lines and curves beside the line between two SWA checkpoints",
    runs=lambda scale: {
        name: Wanted(settings, along(scale))
        for name, settings in {
            "line": LINE,
            "curve": CURVE,
            "SWA, cyclic": swa(2, "cyclic"),
            STANDARD_NETWORK: STANDARD,
            TWO_NETWORKS: INDEPENDENT,
        }.items()
    },
    draw=lambda panels, target: _draw_beside_swa(panels, target),
    claims=lambda scale: [
        more_accurate(
            f"The ensemble of a {name}'s ends is more accurate than that of two SWA checkpoints.",
            name,
            ends_ensemble(),
            "SWA, cyclic",
            ends_ensemble(),
        )
        for name in ("line", "curve")
    ],
    panels=("cifar10", "tiny-imagenet", "tiny-imagenet-50"),
)


def _draw_beside_swa(panels: Mapping[str, Results], target: Path) -> None:
    """SWA's checkpoints are measured at their ends and middle (a simplex): levels, not curves."""

    def build(title: str, results: Results) -> list[SeriesPanel]:
        panel = _one_panel(title, results, BOTH, {"line": "line", "curve": "curve"})
        checkpoints = results["SWA, cyclic"]
        extra = [
            level("SWA, midpoint", checkpoints, midpoint(), "--"),
            level("SWA, two checkpoints", checkpoints, ends_ensemble(), "-"),
        ]
        return [SeriesPanel(panel.title, [*panel.series, *extra], panel.x_label, panel.y_label)]

    draw_panels(panels, target, build)


FIGURES = (FIGURE_4, FIGURE_5, FIGURE_6, FIGURE_13, FIGURE_18)
