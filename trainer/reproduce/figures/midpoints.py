"""How good single networks are: the midpoint of a simplex, and integral networks. Figures 7, 8 and 14."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from subspace_serve.show.plot.series import SeriesPanel
from trainer.reproduce.description import Case, Claim, Figure, Results, Settings, Wanted
from trainer.reproduce.figures.common import (
    ACCURACY,
    CLOSE,
    EARLY_STOPPING,
    HELD_OUT,
    LINE,
    STANDARD,
    alone,
    level,
    noises,
    over,
    over_cases,
    over_noise,
    simplex,
    single,
    swa,
)
from trainer.reproduce.scales import Scale

SIMPLEXES = {"simplex": False, "simplex, layerwise": True}
SCHEDULES = {"SWA, constant": "constant", "SWA, cyclic": "cyclic"}


def _simplexes_and_swa(scale: Scale) -> dict[Case, Wanted]:
    measure = alone(scale)
    wanted = {Case("standard"): Wanted(STANDARD, measure)}
    for m in scale.sizes:
        for name, layerwise in SIMPLEXES.items():
            wanted[Case(name, size=m)] = Wanted(simplex(m, layerwise=layerwise), measure)
        for name, schedule in SCHEDULES.items():
            wanted[Case(name, size=m)] = Wanted(swa(m, schedule), measure)
    return wanted


def _sizes_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    def mean(accuracy: Callable[[int], np.ndarray]) -> np.ndarray:
        return np.mean([accuracy(m) for m in scale.sizes], axis=0)

    def best_swa(m: int) -> np.ndarray:
        """Return the accuracy with the better schedule on average over seeds, since the paper reports the best."""
        return max((single(results[Case(name, size=m)]) for name in SCHEDULES), key=np.sum)

    for name in SIMPLEXES:
        ours = mean(lambda m, name=name: single(results[Case(name, size=m)]))  # type: ignore[misc]
        who = f"The midpoint of a {name}, mean over m,"
        yield Claim(f"{who} is more accurate than standard training.", ours - single(results[Case("standard")]))
        text = f"{who} is at least as accurate as SWA with equal stored parameters."
        yield Claim(text, ours - mean(best_swa), strict=False)
    least, most = scale.sizes[0], scale.sizes[-1]
    yield Claim(
        f"More endpoints make the midpoint better: m = {most} against m = {least}.",
        single(results[Case("simplex", size=most)]) - single(results[Case("simplex", size=least)]),
    )


def _sizes_picture(title: str, results: Results) -> list[SeriesPanel]:
    series = [over_cases(name, results, single, lambda case: case.size) for name in (*SIMPLEXES, *SCHEDULES)]
    series.append(level("standard", single(results[Case("standard")])))
    return [SeriesPanel(title, series, "stored networks m", ACCURACY)]


FIGURE_7 = Figure(
    "7",
    "The midpoint of a simplex of m endpoints beside SWA of m checkpoints",
    _simplexes_and_swa,
    _sizes_claims,
    _sizes_picture,
    panels=("cifar10", "tiny-imagenet", "tiny-imagenet-50"),
)

NOISE_ENDPOINTS = 3
SMOOTHING = 0.1
"""Label smoothing of the simplex that is trained with it."""

NOISY: dict[str, Settings] = {
    "standard": STANDARD,
    "early stopping": EARLY_STOPPING,
    "SWA": swa(NOISE_ENDPOINTS, "constant"),
    "simplex": simplex(NOISE_ENDPOINTS),
    "simplex, layerwise": simplex(NOISE_ENDPOINTS, layerwise=True),
    "simplex + LS": simplex(NOISE_ENDPOINTS, label_smoothing=SMOOTHING),
}
SWEPT: dict[str, Callable[[float], Settings]] = {
    "dropout": lambda value: STANDARD | {"arguments": {"dropout": value}},
    "label smoothing": lambda value: STANDARD | {"label_smoothing": value},
}


def _noisy(scale: Scale) -> dict[Case, Wanted]:
    measure = alone(scale)
    wanted = {
        Case(name, noise=noise): Wanted(settings | HELD_OUT, measure)
        for noise in noises(scale)
        for name, settings in NOISY.items()
    }
    return wanted | {
        Case(name, value, noise=noise): Wanted(settings_of(value) | HELD_OUT, measure)
        for noise in noises(scale)
        for name, settings_of in SWEPT.items()
        for value in scale.sweep
    }


def best_of(results: Results, name: str, noise: float, metric: str = "accuracy") -> np.ndarray:
    """Return a metric of a method at a level of noise, one number per seed.

    For a method with a swept setting, it is that of the value with the best mean over seeds, as in section 4.3.
    """
    found = [single(runs, metric) for case, runs in results.items() if case.name == name and case.noise == noise]
    return (max if metric == "accuracy" else min)(found, key=np.sum)


def _noise_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    for noise in noises(scale):
        for other in ("standard", "early stopping", "label smoothing", "dropout", "SWA"):
            text = f"At {100 * noise:g} % label noise the midpoint is more accurate than {other}."
            yield Claim(text, best_of(results, "simplex", noise) - best_of(results, other, noise))
    for noise in noises(scale):
        yield Claim(
            f"At {100 * noise:g} % label noise the midpoint is better calibrated than standard training.",
            best_of(results, "standard", noise, "ece") - best_of(results, "simplex", noise, "ece"),
            "points of ECE",
        )


def _noise_picture(title: str, results: Results) -> list[SeriesPanel]:
    levels = sorted({case.noise for case in results if case.noise is not None})

    def panel(metric: str, name: str) -> SeriesPanel:
        places = [100 * noise for noise in levels]
        series = [
            over(method, places, [best_of(results, method, noise, metric) for noise in levels])
            for method in (*NOISY, *SWEPT)
        ]
        return SeriesPanel(f"{title}: {name}", series, "label noise (%)", f"{name} (%)")

    return [panel("accuracy", "test accuracy"), panel("ece", "calibration error")]


FIGURE_8 = Figure(
    "8",
    f"Label noise and calibration: the midpoint of a simplex of {NOISE_ENDPOINTS} beside baselines",
    _noisy,
    _noise_claims,
    _noise_picture,
    note="Dropout and label smoothing: in each picture the best of the values swept, by the mean over seeds on the "
    "test images, as in the paper. SWA: three checkpoints at the constant rate. Early stopping: the best epoch on "
    "validation images with clean labels.",
)

INTEGRAL = "integral"


def _integral(scale: Scale) -> dict[Case, Wanted]:
    methods = {
        INTEGRAL: Wanted({"subspace": "integral", "beta": 0.0}, alone(scale, end=1)),
        "standard": Wanted(STANDARD, alone(scale)),
        "line, midpoint": Wanted(LINE, alone(scale)),
    }
    return {Case(name, noise=noise): wanted for noise in noises(scale) for name, wanted in methods.items()}


def _integral_claims(scale: Scale, results: Results) -> Iterator[Claim]:
    def at(name: str, noise: float) -> np.ndarray:
        return single(results[Case(name, noise=noise)])

    yield Claim(
        "Without label noise the integral network comes within half a point of standard training.",
        at(INTEGRAL, 0.0) - at("standard", 0.0),
        margin=CLOSE,
    )
    for noise in scale.label_noise:
        for name, other in (("standard training", "standard"), ("a line's midpoint", "line, midpoint")):
            text = f"At {100 * noise:g} % label noise the integral network is more accurate than {name}."
            yield Claim(text, at(INTEGRAL, noise) - at(other, noise))


FIGURE_14 = Figure(
    "14",
    "Integral networks under label noise",
    _integral,
    _integral_claims,
    lambda title, results: [over_noise(title, results, (INTEGRAL, "standard", "line, midpoint"))],
    panels=("mnist",),
)

FIGURES = (FIGURE_7, FIGURE_8, FIGURE_14)
