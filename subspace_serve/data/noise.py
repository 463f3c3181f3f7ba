"""Label noise for training (section 4.3)."""

from __future__ import annotations

import numpy as np

from subspace_serve.errors import DataError


def label_noise(labels: np.ndarray, fraction: float, classes: int, seed: int) -> np.ndarray:
    """Return labels of which a fraction are replaced by fixed, uniformly random ones.

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
    # RandomState and not default_rng: NumPy promises that its streams never change, and the seed is on record.
    random = np.random.RandomState(seed)
    chosen = random.permutation(len(labels))[: round(fraction * len(labels))]
    noisy = labels.copy()
    noisy[chosen] = random.randint(classes, size=len(chosen))
    return noisy
