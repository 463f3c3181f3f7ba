"""What a seed decides: which images are carved out, which labels are noise, and random orders.

It is RandomState and not default_rng, since runs record only the seed, and NumPy promises that RandomState's streams
never change.
"""

from __future__ import annotations

import numpy as np

from subspace_serve.errors import DataError

_WORD = 2**32
# From here on torch draws 64 bits a step instead of 32.
_LIMIT = (_WORD - 1) // 20


def carve(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide a set's indices into those that stay and about `count` that are carved out, class by class.

    Each class gives its share of `count` (largest remainders first), at least one image but never its last, so that
    both parts hold every class that has two images. In small sets this can make a few more or fewer than `count`. A
    count of 0 carves out nothing.

    Args:
        labels: int64 (N,).
        count: how many images to carve out.
        seed: decides which ones.

    Returns:
        Two ascending int64 arrays of indices, the rest and the part; every index is in exactly one of them.
    """
    classes, sizes = np.unique(labels, return_counts=True)
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
    # Rounded first, so that a tenth of 30 does not become 2.
    shares = np.floor(quota.round(6)).astype(np.int64).clip(1, None)
    shares = np.minimum(shares, sizes - 1)
    for index in np.argsort(shares - quota, kind="stable"):
        if shares.sum() < count and shares[index] < sizes[index] - 1:
            shares[index] += 1
    return shares


def label_noise(labels: np.ndarray, fraction: float, classes: int, seed: int) -> np.ndarray:
    """Return labels of which a fraction are replaced by fixed, uniformly random ones (section 4.3).

    A random label may happen to be the true one, as in the paper.

    Args:
        labels: int64 (N,).
        fraction: of the labels to replace, in [0, 1].
        classes: random labels are drawn from 0 to `classes` - 1.
        seed: decides which labels and their replacements.

    Raises:
        DataError: the fraction is outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise DataError(f"label noise is a fraction of the labels; found {fraction}; give a number in [0, 1]")
    random = np.random.RandomState(seed)
    chosen = random.permutation(len(labels))[: round(fraction * len(labels))]
    noisy = labels.copy()
    noisy[chosen] = random.randint(classes, size=len(chosen))
    return noisy


def permutation(count: int, seed: int) -> np.ndarray:
    """Return the numbers below `count` in a random order, int64 (count,).

    It is the order that `torch.randperm` gives on a CPU with a generator of that seed, which earlier versions used: a
    Fisher-Yates shuffle from the front, by remainders of the Mersenne Twister's 32-bit numbers.

    Raises:
        DataError: there are 214,748,364 or more, which torch shuffles in another way.
    """
    if count >= _LIMIT:
        raise DataError(f"a random order is of fewer than {_LIMIT} images; found {count}; take a part of them")
    # Like torch, use only the low 32 bits of a seed.
    numbers = np.random.RandomState(seed % _WORD).randint(_WORD, size=max(count - 1, 0), dtype=np.uint32)
    order = list(range(count))
    for place, step in enumerate((numbers % np.arange(count, 1, -1)).tolist()):
        order[place], order[place + step] = order[place + step], order[place]
    return np.array(order, dtype=np.int64)
