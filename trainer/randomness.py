"""All randomness of a run, derived from its seed, a purpose and an epoch.

No generator's state outlives an epoch, so a run that is resumed at an epoch's start draws what an uninterrupted one
would have drawn, and there is nothing to save but the epoch's number.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def derived_seed(seed: int, purpose: str, index: int = 0) -> int:
    """Return a 63-bit seed for one purpose (`initialisation`, `alpha`, ...) and index (an epoch, an endpoint)."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), index])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def numpy_generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Return a NumPy generator for one purpose and index."""
    return np.random.default_rng(derived_seed(seed, purpose, index))


def torch_generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """Return a CPU torch generator for one purpose and index."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, index))
