"""Evaluations and selections made by hand, of round numbers, as `evaluate` and `select` write them."""

from __future__ import annotations

from typing import Any

import numpy as np

from subspace_serve.measure.changed import ChangedAnswer, ChangedAnswers
from subspace_serve.measure.metrics import DEBIASED_ECE
from subspace_serve.measure.results import Evaluation

BINS = [
    {"confidence": 0.5, "accuracy": 0.25, "count": 25},
    {"confidence": 0.0, "accuracy": 0.0, "count": 0},
    {"confidence": 0.75, "accuracy": 0.875, "count": 75},
]
CALIBRATION = {"data": "digits:train", "count": 1024, "batch_size": 128, "seed": 0}


def metrics(accuracy: float) -> dict[str, float]:
    return {"accuracy": accuracy, "nll": 1 - accuracy, "ece": (1 - accuracy) / 4, "brier": 1.5 * (1 - accuracy)}


def corruption(name: str, severity: int | None, loss: float, *, baseline: bool = True) -> dict[str, Any]:
    """A corruption that halves accuracy at the first end and takes `loss` of it at the other places."""
    points = []
    for alpha, clean in ((0.0, 0.75), (0.5, 0.875), (1.0, 0.5)):
        after = clean / 2 if alpha == 0 else clean * (1 - loss)
        points.append(
            {
                "alpha": alpha,
                "metrics": metrics(after),
                "ensemble": metrics(after + 0.0625),
                "relative_change": (after - clean) / clean,
            }
        )
    entry: dict[str, Any] = {"corruption": name, "severity": severity, "points": points}
    entry["endpoints_ensemble"] = {"metrics": metrics(0.5)}
    if baseline:
        entry["baseline"] = {"metrics": metrics(0.375), "relative_change": -0.5}
    return entry


def measured(**parts: bool) -> Evaluation:
    """`evaluation(...)` as `evaluate` returns it."""
    return Evaluation.from_json(evaluation(**parts))


def evaluation(*, baseline: bool = True, corruptions: bool = True, reliability: bool = True) -> dict[str, Any]:
    """A line's evaluation at three places; accuracy is 75, 87.5 and 50 %, the standard network's 75 %."""
    document: dict[str, Any] = {
        "geometry": "line",
        "count": 100,
        "data": "test",
        "aggregate": "probabilities",
        "calibration": CALIBRATION,
        "endpoint_distances": [{"pair": [0, 1], "l2": 12.5, "cosine_squared": 0.0625}],
        "points": [
            {"alpha": alpha, "metrics": metrics(accuracy), "ensemble": metrics(accuracy + 0.0625)}
            for alpha, accuracy in ((0.0, 0.75), (0.5, 0.875), (1.0, 0.5))
        ],
        "endpoints_ensemble": {"members": [0.0, 1.0], "metrics": metrics(0.8125), "total_variation": 0.125},
    }
    if reliability:
        for holder in (*document["points"], document["endpoints_ensemble"]):
            holder["reliability"] = BINS
    if baseline:
        document["baseline"] = metrics(0.75)
        if reliability:
            document["baseline_reliability"] = BINS
    if corruptions:
        document["corruptions"] = [
            corruption("fog", 3, 0.25, baseline=baseline),
            corruption("motion_blur", 3, 0.75, baseline=baseline),
        ]
        document["mean_corruption_error"] = {
            "points": [{"alpha": alpha, "error": error} for alpha, error in ((0.0, 0.625), (0.5, 0.5625), (1.0, 0.75))]
        }
        if baseline:
            document["mean_corruption_error"]["baseline"] = {"error": 0.625}
            for point in document["mean_corruption_error"]["points"]:
                point["normalised"] = point["error"] / 0.625
    return document


def selections() -> dict[str, dict[str, Any]]:
    """A place that gains 5 points, and a midpoint that was kept: the gain in NLL of the ends may be chance."""
    fog = {
        "alpha": 0.25,
        "metric": "accuracy",
        "domain": {"data": "validation", "corruption": "fog", "severity": 3, "preset": "tiny", "seed": 0},
        "kept_midpoint": False,
        "reason": "better than the midpoint beyond chance",
        "chosen_on": 50,
        "reported_on": 50,
        "grid": [
            {"alpha": 0.5, "accuracy": 0.75, "images": 50, "standard_error": 0.0625},
            {"alpha": 0.25, "accuracy": 0.875, "images": 50, "standard_error": 0.03125},
        ],
        "reported": metrics(0.8125),
        "midpoint": metrics(0.7625),
        "gain": {"value": 0.05, "interval": [0.025, 0.075], "p_value": 0.001},
        "calibration": CALIBRATION | {"on": "default"},
        "seed": 0,
        "greedy": False,
        "points": 21,
        "refine": True,
        "checkpoint_sha256": "ab" * 32,
        "data": "validation",
    }
    ends = {"members": [0.0, 1.0], "weights": [0.5, 0.5], "aggregate": "probabilities"}
    night = fog | {
        "alpha": 0.5,
        "metric": "nll",
        "domain": {"data": "night.npz"},
        "kept_midpoint": True,
        "reason": "nothing beats the midpoint beyond chance",
        "grid": [
            {"alpha": 0.5, "nll": 0.25, "images": 50, "standard_error": 0.0625},
            ends | {"nll": 0.1875, "images": 50, "standard_error": 0.0625},
        ],
        "gain": {"value": 0.0, "interval": [0.0, 0.0], "p_value": 1.0},
        "best": ends
        | {"reported": metrics(0.8), "gain": {"value": 0.0625, "interval": [-0.0625, 0.125], "p_value": 0.25}},
    }
    return {"fog": fog, "night": night}


def by_calibration(compared_by: str | None = DEBIASED_ECE) -> dict[str, Any]:
    """A selection by ECE; without `compared_by` one as older versions made it, of the plain ECE."""
    made = selections()["fog"] | {"metric": "ece", "grid": [{"alpha": 0.25, "ece": 0.03125, "images": 50}]}
    made["gain"] = {"value": 0.0025, "interval": [-0.0025, 0.005], "p_value": 0.2}
    return made if compared_by is None else made | {"compared_by": compared_by}


def changed() -> ChangedAnswers:
    """Three of 200 images that two models judge differently, of four grey pixels each."""
    shown = [
        ChangedAnswer(index, np.full((2, 2, 1), index, np.uint8), "cat", (("cat", sure), ("dog", 0.75)))
        for index, sure in ((7, 0.875), (3, 0.5), (9, 0.25))
    ]
    return ChangedAnswers(("midpoint", "ends together"), 3, 200, tuple(shown))


def records() -> list[dict[str, Any]]:
    """Three epochs of a training run's `metrics.jsonl`."""
    return [
        {
            "epoch": epoch,
            "loss": 1 / epoch,
            "accuracy": 0.25 * epoch,
            "endpoint_l2": 10.0 + epoch,
            "endpoint_cosine_squared": 0.5**epoch,
        }
        for epoch in (1, 2, 3)
    ]


def plane() -> dict[str, Any]:
    """A plane of nine networks whose error grows from the first corner on."""
    return {
        "vectors": [
            {"name": "endpoint-0", "x": 0.0, "y": 0.0, "error": 0.125},
            {"name": "endpoint-1", "x": 4.0, "y": 0.0, "error": 0.25},
            {"name": "standard network", "x": 2.0, "y": 4.0, "error": 0.5},
        ],
        "path": [[0.0, 0.0], [4.0, 0.0]],
        "x": [-1.0, 2.0, 5.0],
        "y": [-1.0, 2.0, 5.0],
        "error": [[0.125, 0.25, 0.5], [0.25, 0.5, 0.75], [0.5, 0.75, 0.875]],
        "count": 100,
        "calibration": CALIBRATION,
    }
