"""An ensemble of the ends in int8 beside the midpoint in float: two networks for about the time of one."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import numpy as np

from subspace_serve.data import Images
from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import score
from subspace_serve.measure.networks import Candidate, StatisticsSource, combined
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.network.network import Answering, Network
from subspace_serve.network.reduced import reduce_graph
from subspace_serve.network.served import ServedGraph
from subspace_serve.select.decide import gain_with_interval
from subspace_serve.space.place import Alpha, place

CALIBRATION_IMAGES = 512
ROUNDS, BATCH = 15, 16


def int8_rival(
    network: Network, calibration: StatisticsSource, images: Images, metric: str, *, aggregate: str, seed: int
) -> dict[str, Any]:
    """Measure the ends' int8 ensemble against the float midpoint on images that chose nothing.

    Args:
        network: the subspace.
        calibration: images for BatchNorm's statistics, of which some give the ranges of int8.
        images: labelled.
        metric: of `subspace_serve.measure.metrics.METRICS`.
        aggregate: what the ensemble averages.
        seed: of the bootstrap.

    Returns:
        JSON values: `members`, `weights` and `aggregate`; `reported`, its metrics, and `gain` over the float midpoint
        with its interval; `cost`, the time of both members by that of the midpoint, in turns on this machine.

    Raises:
        DataError: the statistics came without images.
        ExportError: the package onnx is not installed, or a graph cannot be quantised.
    """
    if not isinstance(calibration, CalibrationData):
        raise DataError("int8 takes images for its ranges, and the statistics came without any; give --calibrate-on")
    ensemble = Candidate(tuple(map(place, network.geometry.ends)), None, aggregate)
    single = network.with_threads(1)
    centre = place(network.geometry.midpoint)
    midpoint = _answering(single, calibration, centre)
    ends = {alpha: _answering(single, calibration, alpha, int8=True) for alpha in ensemble.members}
    logits = {alpha: answering.logits_of(images) for alpha, answering in ends.items()}
    rival = score(combined(ensemble, logits), images.labels)
    usual = score(combined(Candidate.point(centre), {centre: midpoint.logits_of(images)}), images.labels)
    pixels, _ = images.take(np.arange(min(BATCH, len(images))))
    return {
        **ensemble.to_json(),
        "reported": rival.metrics(),
        "gain": gain_with_interval(rival, usual, metric, seed=seed),
        "cost": _cost(midpoint, list(ends.values()), pixels),
    }


def _answering(network: Network, calibration: CalibrationData, alpha: Alpha, *, int8: bool = False) -> Answering:
    weights = network.weights(alpha)
    graph = ServedGraph(network).file(weights, calibration.statistics(network, alpha, weights))
    if int8:
        batches = islice(calibration.pixels(), max(1, CALIBRATION_IMAGES // calibration.batch_size))
        graph = reduce_graph(graph, "int8", batches).data
    session = network.session(graph, {})
    return Answering(session, session.get_providers()[0])


def _cost(midpoint: Answering, ends: list[Answering], pixels: np.ndarray) -> dict[str, Any]:
    """Return the median and the quartiles of the ratio of times, round by round."""
    ratios = []
    for _ in range(ROUNDS + 1):  # the first warms up
        started = time.perf_counter()
        midpoint.logits(pixels)
        between = time.perf_counter()
        for end in ends:
            end.logits(pixels)
        ratios.append((time.perf_counter() - between) / (between - started))
    lower, median, upper = np.percentile(ratios[1:], [25, 50, 75]).tolist()
    return {"median": median, "quartiles": [lower, upper], "batch": len(pixels), "rounds": ROUNDS}
