"""Label noise for training (section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from subspace_serve.errors import DataError


def label_noise(labels: Tensor, fraction: float, classes: int, seed: int) -> Tensor:
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
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(labels), generator=generator)[: round(fraction * len(labels))]
    noisy = labels.clone()
    noisy[chosen] = torch.randint(classes, (len(chosen),), generator=generator)
    return noisy
