"""Accuracy of models and ensembles along one-dimensional subspaces: figures 4, 5, 6, 13 and 18."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from subspace_serve.show.plot.series import Series, SeriesPanel
from trainer.reproduce.description import Case, Claim, Figure, Results, Settings, Wanted
from trainer.reproduce.figures.common import (
    ACCURACY,
    CLOSE,
    CURVE,
    INDEPENDENT,
    LAYERWISE,
    LINE,
    STANDARD,
    all_measured,
    along,
    deep_ensemble,
    ends,
    level,
    midpoint,
    over_places,
    swa,
)
from trainer.reproduce.scales import Scale

SHAPES: dict[str, Settings] = {"line": LINE, "line, layerwise": LAYERWISE, "curve": CURVE}
ONE_NETWORK, TWO_NETWORKS = Case("standard network"), Case("two independent networks")
LEVELS = {ONE_NETWORK.name: STANDARD, TWO_NETWORKS.name: INDEPENDENT}
PANELS = ("cifar10", "tiny-imagenet", "tiny-imagenet-50")

MODELS, ENSEMBLES, BOTH = {"metrics": "--"}, {"ensemble": "-"}, {"metrics": "--", "ensemble": "-"}
"""What is drawn along a subspace, in the paper's style: models dashed, ensembles solid."""


def _panel(title: str, results: Results, kinds: Mapping[str, str], names: Mapping[Case, str]) -> SeriesPanel:
    """Return a panel of subspaces, each under the name given; standard training is dotted."""
    series: list[Series] = [
        over_places(name, results[case], kind, style) for case, name in names.items() for kind, style in kinds.items()
    ]
    if ONE_NETWORK in results:
        series.append(level(ONE_NETWORK.name, midpoint(results[ONE_NETWORK])))
    if TWO_NETWORKS in results and "ensemble" in kinds:
        series.append(level(TWO_NETWORKS.name, ends(results[TWO_NETWORKS]), "-."))
    x_label = "α (dashed: models, solid: ensembles)" if len(kinds) > 1 else "α"
    return SeriesPanel(title, series, x_label, ACCURACY)


_SHAPE_NAMES = {Case(name): name for name in SHAPES}


def _models_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    for name in SHAPES:
        yield Claim(
            f"The midpoint of a {name} is at least as accurate as standard training of the same length.",
            midpoint(results[Case(name)]) - midpoint(results[ONE_NETWORK]),
            strict=False,
        )


FIGURE_4 = Figure(
    "4",
    "Accuracy of the models along lines and curves",
    lambda scale: all_measured({**SHAPES, ONE_NETWORK.name: STANDARD}, along(scale)),
    _models_claims,
    lambda title, results: [_panel(title, results, MODELS, _SHAPE_NAMES)],
    panels=PANELS,
)


def _ensembles_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    for name in ("line", "curve"):
        yield Claim(
            f"The ensemble of a {name}'s ends comes within half a point of two independently trained networks.",
            ends(results[Case(name)]) - ends(results[TWO_NETWORKS]),
            margin=CLOSE,
            strict=False,
        )


FIGURE_5 = Figure(
    "5",
    "Accuracy of P(α) and P(1 − α) averaged in output space",
    lambda scale: all_measured({**SHAPES, TWO_NETWORKS.name: INDEPENDENT}, along(scale)) | deep_ensemble(scale),
    _ensembles_claims,
    lambda title, results: [_panel(title, results, ENSEMBLES, _SHAPE_NAMES)],
    panels=PANELS,
)

BETAS = (0.0, 1.0, 2.0)


def _betas(scale: Scale) -> dict[Case, Wanted]:
    shapes = {
        Case(name, beta=beta): Wanted(settings, along(scale)) for name, settings in SHAPES.items() for beta in BETAS
    }
    return shapes | all_measured(LEVELS, along(scale)) | deep_ensemble(scale)


def _betas_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    without, line = results[Case("line", beta=0.0)], results[Case("line", beta=1.0)]
    layerwise = results[Case("line, layerwise", beta=1.0)]
    yield Claim(
        "Regularisation makes the ensemble of a line's ends more accurate (β = 1 against β = 0).",
        ends(line) - ends(without),
    )
    yield Claim(
        "Regularisation makes the midpoint of a line more accurate (β = 1 against β = 0).",
        midpoint(line) - midpoint(without),
    )
    yield Claim("Layerwise training gives a more accurate midpoint.", midpoint(layerwise) - midpoint(line))
    yield Claim("Layerwise training gives a less accurate ensemble.", ends(line) - ends(layerwise))


FIGURE_6 = Figure(
    "6",
    "Models and ensembles for regularisation strengths β = 0, 1, 2",
    _betas,
    _betas_claims,
    lambda title, results: [
        _panel(f"{title}: {name}", results, BOTH, {Case(name, beta=beta): f"β = {beta:g}" for beta in BETAS})
        for name in SHAPES
    ],
    panels=PANELS,
)

SAMPLED = ("line", "curve")
SIMILAR = "2 samples, lambda = 1"
VARIANTS: dict[str, Settings] = {
    "1 sample": {"samples": 1},
    "2 samples": {"samples": 2},
    "4 samples": {"samples": 4},
    SIMILAR: {"samples": 2, "feature_similarity": 1.0},
}


def _samples_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    gets = {"midpoint": midpoint, "ends' ensemble": ends}
    for name in SAMPLED:
        one = results[Case(name, variant="1 sample")]
        for count in (2, 4):
            several = results[Case(name, variant=f"{count} samples")]
            for what, get in gets.items():
                yield Claim(f"{count} samples improve the {what} of a {name}.", get(several) - get(one))
    for name in SAMPLED:
        similar, two = results[Case(name, variant=SIMILAR)], results[Case(name, variant="2 samples")]
        for what, get in gets.items():
            yield Claim(f"Feature similarity (λ = 1) improves the {what} of a {name}.", get(similar) - get(two))


def _samples_picture(title: str, results: Results) -> list[SeriesPanel]:
    names = {case: case.variant.replace("lambda", "λ") for case in results}
    return [
        _panel(f"{title}: {shape}", results, BOTH, {case: name for case, name in names.items() if case.name == shape})
        for shape in SAMPLED
    ]


FIGURE_13 = Figure(
    "13",
    "Several samples of α a batch, and the feature-similarity term",
    lambda scale: {
        Case(name, variant=variant): Wanted(SHAPES[name] | settings, along(scale))
        for name in SAMPLED
        for variant, settings in VARIANTS.items()
    },
    _samples_claims,
    _samples_picture,
    panels=("cifar10", "tiny-imagenet"),
)

CHECKPOINTS = Case("SWA, cyclic")


def _beside_swa_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    for name in ("line", "curve"):
        yield Claim(
            f"The ensemble of a {name}'s ends is more accurate than that of two SWA checkpoints.",
            ends(results[Case(name)]) - ends(results[CHECKPOINTS]),
        )


def _beside_swa_picture(title: str, results: Results) -> list[SeriesPanel]:
    """Draw SWA's checkpoints as levels, not curves: they are a simplex, measured only at its ends and midpoint."""
    panel = _panel(title, results, BOTH, {Case("line"): "line", Case("curve"): "curve"})
    checkpoints = [
        level("SWA, midpoint", midpoint(results[CHECKPOINTS]), "--"),
        level("SWA, two checkpoints", ends(results[CHECKPOINTS]), "-"),
    ]
    return [replace(panel, series=[*panel.series, *checkpoints])]


FIGURE_18 = Figure(
    "18",
    "Lines and curves beside the line between two SWA checkpoints",
    lambda scale: all_measured(
        {"line": LINE, "curve": CURVE, CHECKPOINTS.name: swa(2, "cyclic"), **LEVELS}, along(scale)
    ),
    _beside_swa_claims,
    _beside_swa_picture,
    panels=PANELS,
)

FIGURES = (FIGURE_4, FIGURE_5, FIGURE_6, FIGURE_13, FIGURE_18)
