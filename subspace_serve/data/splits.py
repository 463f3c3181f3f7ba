"""Carving a validation or test part out of a training set."""

from __future__ import annotations

import numpy as np


def carve(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide a set's indices into what stays and about `count` that are carved out, class by class.

    Each class gives its share of `count` (largest remainders first), at least one image and never its last
    one, so that both parts hold every class that has two images. In small sets this can come to a few more or
    fewer than `count`.

    Args:
        labels: int64 (N,).
        count: how many images to carve out.
        seed: decides which ones.

    Returns:
        Two ascending int64 arrays of indices, the rest and the part; every index is in exactly one of them.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    # RandomState and not default_rng: NumPy promises that its streams never change, and the seed is on record.
    random = np.random.RandomState(seed)
    carved = np.zeros(len(labels), dtype=bool)
    for label, take in zip(classes, _shares(sizes, count), strict=True):
        members = np.flatnonzero(labels == label)
        carved[random.permutation(members)[:take]] = True
    return np.flatnonzero(~carved), np.flatnonzero(carved)


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """Return how many images each class gives, in proportion to its size."""
    if count == 0:
        return np.zeros_like(sizes)
    quota = sizes * (count / sizes.sum())
    # Rounded first: 0.1 of 30 must not become 2.9999999.
    shares = np.floor(quota.round(6)).astype(np.int64).clip(1, None)
    shares = np.minimum(shares, sizes - 1)
    for index in np.argsort(shares - quota, kind="stable"):
        if shares.sum() < count and shares[index] < sizes[index] - 1:
            shares[index] += 1
    return shares
