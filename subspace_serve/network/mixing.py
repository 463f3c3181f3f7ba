"""Statistics of a few images of a domain, mixed with those of many training images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from subspace_serve.network.network import Network
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics_set import StatisticsSet, even_batches

PRIOR = 16
"""For how many images of a domain the training statistics stand (Schneider et al. 2020, figure 3)."""
_NOISE_IMAGES, _NOISE_DRAWS = 32, 8


def mixed(
    own: StatisticsSet, training: StatisticsSet, skeleton: Skeleton, *, prior: float = PRIOR
) -> tuple[StatisticsSet, np.ndarray]:
    """Return a domain's statistics, from n images, mixed with those of training, and each layer's share.

    A layer takes the share n / (n + prior) of its own (Schneider et al. 2020, equation 3), or more where they differ
    from training's by more than chance: at least 1 - E / D, where D is their distance at the midpoint and E what it
    would be for n training images. That is how James and Stein shrink an estimate; it asks for many images only where
    the shift is mild and there is little to gain.

    Args:
        own: of the domain's images.
        training: of training images, with their `noise`.
        skeleton: of the network.
        prior: for how many images the training statistics stand; 0 leaves the domain's own.

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
    """Return how far one network's statistics lie from others, a number a layer: float64 (layers,).

    The mean over channels of the squared difference of means, in units of the reference's variance, and half the
    squared difference of the variances' logarithms.
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
    """Return how far the statistics of one training image lie from those of many, by layer: float32 (layers,).

    Measured with small draws at the midpoint; that of n images is an n-th of it.

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
