"""The learning rate of a network that is trained alone (section 4)."""

from __future__ import annotations

import math

MAXIMAL_WARMUP = 0.25


def warm_cosine(step: int, *, peak: float, total: int, warmup: int) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to zero.

    Args:
        step: number of the step, from 0.
        peak: the rate that warm-up reaches.
        total: steps in all.
        warmup: steps of warm-up, at most a quarter of all (a short run would have nothing left to anneal).
    """
    warmup = min(warmup, int(MAXIMAL_WARMUP * total))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
