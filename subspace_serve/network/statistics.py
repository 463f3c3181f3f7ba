"""BatchNorm statistics of one network: computed by passes of its graph, and checked on other images.

Those that training tracks mix many places of the subspace, so a collapsed network has none of its own. They are
computed in one pass over images (appendix D.3, after Izmailov et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace_serve.errors import CalibrationError
from subspace_serve.network.measuring import MEAN, SHAPE, SQUARE, VARIANCE
from subspace_serve.network.skeleton import BatchNorm, Skeleton

TOLERATED_Z = 4.0
"""How many standard errors stored statistics may be off, as a root mean square over a layer's channels."""
SMALLEST_CHECK = 16


@dataclass(frozen=True)
class Statistics:
    """Means and variances of every BatchNorm layer, for one network and one set of images.

    Attributes:
        values: as `Skeleton.statistics` lays them out, float32 (k,).
        images: how many images they were computed from.
    """

    values: np.ndarray
    images: int


class Averages:
    """Averages the statistics of batches.

    The result equals that of `torch.optim.swa_utils.update_bn` for batches of one size; otherwise batches are weighted
    by their size. A layer that runs several times in a pass gets the mean over its runs.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._sums = np.zeros_like(skeleton.default_statistics(), dtype=np.float64)
        self._images = 0

    def add(self, images: int, outputs: dict[str, np.ndarray]) -> None:
        """Add the outputs of `measuring.batches_graph`, by name, for a batch of so many `images`."""
        self._images += images
        for layer in self._skeleton.batchnorms:
            for source in layer.inputs:
                shape = outputs[source + SHAPE]
                count = int(shape.prod() // shape[1])
                # The graph gives the variance of the population; running statistics are those of a sample.
                unbiased = outputs[source + VARIANCE].astype(np.float64) * count / max(count - 1, 1)
                share = images / len(layer.inputs)
                self._sums[layer.mean.where] += share * outputs[source + MEAN]
                self._sums[layer.variance.where] += share * unbiased

    def statistics(self) -> Statistics:
        """Return the averages.

        Raises:
            CalibrationError: there was no batch, or a layer's statistics are not finite.
        """
        if self._images == 0:
            raise CalibrationError("calibration data is empty; give at least 2 images")
        values = (self._sums / self._images).astype(np.float32)
        for layer in self._skeleton.batchnorms:
            if not (np.isfinite(values[layer.mean.where]).all() and np.isfinite(values[layer.variance.where]).all()):
                raise CalibrationError(
                    f"BatchNorm layer {layer.name} got statistics that are not finite from this data; look at the "
                    "images, or train again"
                )
        return Statistics(values, self._images)


@dataclass(frozen=True)
class LayerAgreement:
    """How well a BatchNorm layer's statistics agree with fresh ones, in standard errors.

    `mean_z` and `variance_z` are root mean squares over channels of (fresh - stored) / standard error.
    """

    layer: str
    mean_z: float
    variance_z: float


def agreements(
    skeleton: Skeleton, statistics: Statistics, measured: Iterable[dict[str, np.ndarray]]
) -> list[LayerAgreement]:
    """Compare statistics with fresh ones of the network, on images that they were not computed from.

    The means and mean squares of each image and channel give the sampling error of both the fresh and the stored
    statistics. Stale and default statistics, and those averaged between the ends, are many standard errors off.

    Args:
        skeleton: the network's graph.
        statistics: what is checked.
        measured: outputs of `measuring.images_graph`, a batch at a time.

    Returns:
        One entry per layer, in the graph's order.

    Raises:
        CalibrationError: a layer is off by more than `TOLERATED_Z` standard errors; the message names the worst. Also
            when fewer than 16 images are given, too few to estimate a sampling error.
    """
    batches = list(measured)
    found = [_agreement(layer, statistics, batches) for layer in skeleton.batchnorms]
    if not found:
        return []
    worst = max(found, key=lambda agreement: _off(agreement))
    if not _off(worst) <= TOLERATED_Z:
        raise CalibrationError(
            f"BatchNorm layer {worst.layer} holds statistics that are not this network's: on fresh images its mean is "
            f"{worst.mean_z:.1f} and its variance {worst.variance_z:.1f} standard errors off (at most "
            f"{TOLERATED_Z:g}); recalibrate it on data like that which it will see"
        )
    return found


def _off(agreement: LayerAgreement) -> float:
    off = max(agreement.mean_z, agreement.variance_z)
    return math.inf if math.isnan(off) else off


def _agreement(layer: BatchNorm, statistics: Statistics, batches: list[dict[str, Any]]) -> LayerAgreement:
    stored_variance = statistics.values[layer.variance.where].astype(np.float64)
    scale_of_input = np.sqrt(stored_variance + layer.epsilon)
    # For several runs in a pass each image has the mean over runs, as the statistics have. All are centred on the
    # stored mean.
    runs = len(layer.inputs)
    means = _joined(batches, layer, MEAN) * scale_of_input / runs
    squares = _joined(batches, layer, SQUARE) * scale_of_input**2 / runs
    count = len(means)
    if count < SMALLEST_CHECK:
        raise CalibrationError(
            f"checking a calibration takes {SMALLEST_CHECK} images or more that were not used for it; got {count}"
        )
    fresh_mean = means.mean(0)
    # About the fresh mean, an image's contribution to the variance is its mean square deviation.
    deviations = squares - 2 * fresh_mean * means + fresh_mean**2
    fresh_variance = deviations.mean(0)
    scale = math.sqrt(1 / count + 1 / max(statistics.images, 1))
    # A floor of a thousandth of a standard deviation, for float32 and batch-wise averaging rather than sampling.
    deviation = np.sqrt(np.maximum(fresh_variance, layer.epsilon))
    mean_error = np.maximum(means.std(0, ddof=1) * scale, 1e-3 * deviation)
    variance_error = np.maximum(deviations.std(0, ddof=1) * scale, 2e-3 * deviation**2)
    return LayerAgreement(
        layer.name,
        float(np.sqrt(np.square(fresh_mean / mean_error).mean())),
        float(np.sqrt(np.square((fresh_variance - stored_variance) / variance_error).mean())),
    )


def _joined(batches: list[dict[str, Any]], layer: BatchNorm, what: str) -> np.ndarray:
    """Return a measure of all images, summed over the layer's runs. Shape (N, C)."""
    if not batches:
        return np.empty((0, *layer.mean.shape))
    return np.concatenate(
        [sum(batch[source + what].astype(np.float64) for source in layer.inputs) for batch in batches]
    )
