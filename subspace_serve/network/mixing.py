"""Statistics of a few images of a domain, mixed with those of many training images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from subspace_serve.network.network import Network
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics_set import StatisticsSet, even_batches

PRIOR = 16
"""How many images of a domain the training statistics count as (Schneider et al. 2020, figure 3)."""
_NOISE_IMAGES, _NOISE_DRAWS = 32, 8


def mixed(
    own: StatisticsSet, training: StatisticsSet, skeleton: Skeleton, *, prior: float = PRIOR
) -> tuple[StatisticsSet, np.ndarray]:
    """Return a domain's statistics, from n images, mixed with the training statistics, and each layer's share.

    The share of the domain's own statistics in a layer is n / (n + prior) (Schneider et al. 2020, equation 3), or more
    where they differ from the training statistics by more than chance: at least 1 - E / D, where D is their distance
    (`distances`) at the knot nearest to the midpoint, and E what it would be for n training images. This is James-Stein
    shrinkage; it needs many images only where the shift is mild and there is little to gain.

    Args:
        own: from the domain's images.
        training: from training images; without its `noise` the share is n / (n + prior) everywhere.
        skeleton: of the network.
        prior: how many images the training statistics count as; 0 uses the domain's own statistics alone.

    Returns:
        The mixed set, and the shares, float64 (layers,).
    """
    shares = np.full(len(skeleton.batchnorms), own.images / (own.images + prior))
    middle = own.lattice.middle
    if training.noise is not None:
        found = distances(skeleton, own.values[middle], training.values[middle])
        shares = np.maximum(shares, 1 - training.noise / own.images / np.maximum(found, 1e-12))
    columns = np.ones(own.values.shape[1])
    for layer, share in zip(skeleton.batchnorms, shares, strict=True):
        columns[layer.mean.where] = columns[layer.variance.where] = share
    values = columns * own.values.astype(np.float64) + (1 - columns) * training.values
    return replace(own, values=values.astype(np.float32), degree=training.degree), shares


def distances(skeleton: Skeleton, row: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return how far one network's statistics lie from others, one number per layer: float64 (layers,).

    It is the mean over channels of the squared difference of the means, in units of the reference's variance, plus half
    the squared difference of the variances' logarithms.
    """
    found = []
    for layer in skeleton.batchnorms:
        mean, variance = layer.mean.where, layer.variance.where
        scale = reference[variance].astype(np.float64) + layer.epsilon
        of_means = np.square(row[mean].astype(np.float64) - reference[mean]) / scale
        of_variances = np.square(np.log(row[variance].astype(np.float64) + layer.epsilon) - np.log(scale)) / 2
        found.append(float((of_means + of_variances).mean()))
    return np.array(found)


def sampling_noise(network: Network, training: StatisticsSet, images: np.ndarray) -> np.ndarray:
    """Return how far the statistics of one training image would lie from those of many, by layer: float32 (layers,).

    It is extrapolated from random draws of up to 32 images at the knot nearest to the midpoint, on the assumption that
    the distance for n images is an n-th of it.

    Args:
        network: the subspace.
        training: its statistics of training images.
        images: training images, uint8 (N, H, W, C).
    """
    count = min(_NOISE_IMAGES, len(images))
    middle = training.lattice.middle
    sums = np.zeros(len(network.skeleton.batchnorms))
    for draw in range(_NOISE_DRAWS):
        drawn = images[np.random.RandomState(draw).permutation(len(images))[:count]]
        row = network.recalibrate(even_batches(drawn), alpha=training.knots[middle]).values
        sums += distances(network.skeleton, row, training.values[middle])
    return (sums * count / _NOISE_DRAWS).astype(np.float32)
