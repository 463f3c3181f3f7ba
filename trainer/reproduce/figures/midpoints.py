"""What the middle of a simplex is worth: figures 7, 8 and 14, and the left half of figure 12."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from subspace_serve.show.plot.series import Series, SeriesPanel
from trainer.reproduce.description import Claim, Figure, Measurement, Results, Settings, Wanted
from trainer.reproduce.figures.common import (
    EARLY_STOPPING,
    LINE,
    STANDARD,
    alone,
    draw_panels,
    level,
    over,
    plain,
    simplex,
    swa,
)
from trainer.reproduce.scales import Scale

STANDARD_NETWORK = "standard"
SCHEDULES = ("constant", "cyclic")


def _sizes(scale: Scale) -> list[int]:
    return list(range(2, scale.most_endpoints + 1))


def _simplexes_and_swa(scale: Scale) -> dict[str, Wanted]:
    wanted = {STANDARD_NETWORK: Wanted(STANDARD, alone(scale))}
    for m in _sizes(scale):
        wanted[f"simplex {m}"] = Wanted(simplex(m), alone(scale))
        wanted[f"simplex, layerwise {m}"] = Wanted(simplex(m, layerwise=True), alone(scale))
        for schedule in SCHEDULES:
            wanted[f"SWA, {schedule} {m}"] = Wanted(swa(m, schedule), alone(scale))
    return wanted


def _mean_over_sizes(scale: Scale, kind: str, other: Callable[[Results, int, int], float]):
    """Return what gives, seed by seed, the mean over m of a kind's accuracy less another number."""

    def difference(results: Results) -> list[float]:
        return [
            sum(results[f"{kind} {m}"][seed]["accuracy"] - other(results, m, seed) for m in _sizes(scale))
            / len(_sizes(scale))
            for seed in range(len(results[STANDARD_NETWORK]))
        ]

    return difference


def _best_swa(results: Results, m: int, seed: int) -> float:
    """The better of the two schedules on average over seeds, as the paper reports the best."""
    runs = [results[f"SWA, {schedule} {m}"] for schedule in SCHEDULES]
    return max(runs, key=lambda measured: sum(run["accuracy"] for run in measured))[seed]["accuracy"]


def _less_best_swa(kind: str, m: int):
    return lambda results: [
        run["accuracy"] - _best_swa(results, m, seed) for seed, run in enumerate(results[f"{kind} {m}"])
    ]


def _draw_sizes(panels: Mapping[str, Results], target: Path) -> None:
    def build(title: str, results: Results) -> list[SeriesPanel]:
        sizes = sorted({int(label.rsplit(" ", 1)[1]) for label in results if label != STANDARD_NETWORK})
        kinds = ["simplex", "simplex, layerwise", *(f"SWA, {schedule}" for schedule in SCHEDULES)]
        series = [over(kind, sizes, [(results[f"{kind} {m}"], plain()) for m in sizes]) for kind in kinds]
        series.append(level(STANDARD_NETWORK, results[STANDARD_NETWORK], plain()))
        return [SeriesPanel(title, series, "stored networks m", "test accuracy (%)")]

    draw_panels(panels, target, build)


FIGURE_7 = Figure(
    "7",
    "The midpoint of a simplex of m endpoints beside SWA of m checkpoints",
    runs=_simplexes_and_swa,
    draw=_draw_sizes,
    claims=lambda scale: (
        [
            claim
            for kind in ("simplex", "simplex, layerwise")
            for claim in (
                Claim(
                    f"The midpoint of a {kind}, mean over m = 2 to {scale.most_endpoints}, is more accurate than "
                    "standard training.",
                    _mean_over_sizes(scale, kind, lambda results, m, seed: results[STANDARD_NETWORK][seed]["accuracy"]),
                ),
                Claim(
                    f"The midpoint of a {kind}, mean over m = 2 to {scale.most_endpoints}, is at least as accurate as "
                    "SWA with equal stored parameters.",
                    _mean_over_sizes(scale, kind, _best_swa),
                    strict=False,
                ),
            )
        ]
        + [
            Claim(
                f"More endpoints make the midpoint better: m = {scale.most_endpoints} against m = 2.",
                lambda results: [
                    a["accuracy"] - b["accuracy"]
                    for a, b in zip(results[f"simplex {scale.most_endpoints}"], results["simplex 2"], strict=True)
                ],
            )
        ]
    ),
    panels=("cifar10", "tiny-imagenet", "tiny-imagenet-50"),
)

NOISE_ENDPOINTS = 3
SMOOTHING = 0.1
"""Label smoothing of the simplex that has some."""

NOISY: dict[str, Settings] = {
    STANDARD_NETWORK: STANDARD,
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


def _levels(scale: Scale) -> tuple[float, ...]:
    return (0.0, *scale.label_noise)


def _noisy(scale: Scale) -> dict[str, Wanted]:
    wanted = {}
    for noise in _levels(scale):
        for name, settings in NOISY.items():
            wanted[f"{name} at {noise:g}"] = Wanted(settings | {"label_noise": noise}, alone(scale))
    for noise in _levels(scale):
        for name, settings_of in SWEPT.items():
            for value in scale.sweep:
                label = f"{name} {value:g} at {noise:g}"
                wanted[label] = Wanted(settings_of(value) | {"label_noise": noise}, alone(scale))
    return wanted


def best_of(results: Results, name: str, noise: float, metric: str) -> Sequence[Measurement]:
    """Return the runs of the swept value with the best mean over seeds, as the paper reports (section 4.3)."""
    found = [
        runs for label, runs in results.items() if label.startswith(f"{name} ") and label.endswith(f" at {noise:g}")
    ]
    sign = 1 if metric == "accuracy" else -1
    return max(found, key=lambda runs: sign * sum(run[metric] for run in runs))


def _runs_of(results: Results, name: str, noise: float, metric: str) -> Sequence[Measurement]:
    return best_of(results, name, noise, metric) if name in SWEPT else results[f"{name} at {noise:g}"]


def _draw_noise(panels: Mapping[str, Results], target: Path) -> None:
    def build(title: str, results: Results) -> list[SeriesPanel]:
        noises = sorted({float(label.rsplit(" at ", 1)[1]) for label in results})
        return [
            SeriesPanel(
                f"{title}: {name}",
                [
                    over(
                        method,
                        [100 * n for n in noises],
                        [(_runs_of(results, method, n, key), plain(key)) for n in noises],
                    )
                    for method in (*NOISY, *SWEPT)
                ],
                "label noise (%)",
                f"{name} (%)",
            )
            for key, name in (("accuracy", "test accuracy"), ("ece", "calibration error"))
        ]

    draw_panels(panels, target, build)


def _against(method: str, other: str, noise: float, metric: str = "accuracy"):
    """Return what gives, seed by seed, by how much a method is better than another at a level of noise."""
    sign = 1 if metric == "accuracy" else -1

    def difference(results: Results) -> list[float]:
        ours, theirs = _runs_of(results, method, noise, metric), _runs_of(results, other, noise, metric)
        return [sign * (a[metric] - b[metric]) for a, b in zip(ours, theirs, strict=True)]

    return difference


FIGURE_8 = Figure(
    "8",
    f"Label noise and calibration: the midpoint of a simplex of {NOISE_ENDPOINTS} beside baselines",
    runs=_noisy,
    draw=_draw_noise,
    claims=lambda scale: [
        *(
            Claim(
                f"At {100 * noise:g} % label noise the midpoint is more accurate than {other}.",
                _against("simplex", other, noise),
            )
            for noise in _levels(scale)
            for other in (STANDARD_NETWORK, "early stopping", "label smoothing", "dropout", "SWA")
        ),
        *(
            Claim(
                f"At {100 * noise:g} % label noise the midpoint is better calibrated than standard training.",
                _against("simplex", STANDARD_NETWORK, noise, "ece"),
                "points of ECE",
            )
            for noise in _levels(scale)
        ),
    ],
    note="Dropout and label smoothing: the best of the values swept, by the mean over seeds on the test images, as in "
    "the paper. SWA: three checkpoints at the constant rate. Early stopping: the best epoch on validation images with "
    "clean labels.",
)


def _integral(scale: Scale) -> dict[str, Wanted]:
    wanted = {}
    for noise in _levels(scale):
        noisy = {"label_noise": noise}
        wanted[f"integral at {noise:g}"] = Wanted({"subspace": "integral", "beta": 0.0} | noisy, alone(scale, end=1))
        wanted[f"{STANDARD_NETWORK} at {noise:g}"] = Wanted(STANDARD | noisy, alone(scale))
        wanted[f"line, midpoint at {noise:g}"] = Wanted(LINE | noisy, alone(scale))
    return wanted


def _draw_integral(panels: Mapping[str, Results], target: Path) -> None:
    def build(title: str, results: Results) -> list[SeriesPanel]:
        noises = sorted({float(label.rsplit(" at ", 1)[1]) for label in results})
        series: list[Series] = [
            over(name, [100 * n for n in noises], [(results[f"{name} at {n:g}"], plain()) for n in noises])
            for name in ("integral", STANDARD_NETWORK, "line, midpoint")
        ]
        return [SeriesPanel(title, series, "label noise (%)", "test accuracy (%)")]

    draw_panels(panels, target, build)


FIGURE_14 = Figure(
    "14",
    "Integral networks under label noise",
    runs=_integral,
    draw=_draw_integral,
    claims=lambda scale: [
        Claim(
            "Without label noise the integral network comes within half a point of standard training.",
            _against("integral", STANDARD_NETWORK, 0.0),
            margin=0.005,
        ),
        *(
            Claim(
                f"At {100 * noise:g} % label noise it is more accurate than {name}.",
                _against("integral", other, noise),
            )
            for noise in scale.label_noise
            for name, other in (("standard training", STANDARD_NETWORK), ("a line's midpoint", "line, midpoint"))
        ),
    ],
    panels=("mnist",),
)

FIGURES = (FIGURE_7, FIGURE_8, FIGURE_14)
