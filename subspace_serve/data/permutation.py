"""Random orders that a seed decides, for good: what was drawn with them is on record."""

from __future__ import annotations

import numpy as np

from subspace_serve.errors import DataError

_WORD = 2**32
# From here on torch draws 64 bits a step instead of 32.
_LIMIT = (_WORD - 1) // 20


def permutation(count: int, seed: int) -> np.ndarray:
    """Return the numbers below `count` in a random order, int64 (count,).

    It is the order that `torch.randperm` gives on a processor with a generator of that seed, which earlier versions
    drew: Fisher and Yates's, from the front, by the remainders of Mersenne Twister's 32-bit numbers.

    Raises:
        DataError: there are 214,748,364 or more, which torch orders in another way.
    """
    if count >= _LIMIT:
        raise DataError(f"a random order is of fewer than {_LIMIT} images; found {count}; take a part of them")
    # Like torch, of a longer seed only the last 32 bits. RandomState's streams never change.
    numbers = np.random.RandomState(seed % _WORD).randint(_WORD, size=max(count - 1, 0), dtype=np.uint32)
    order = list(range(count))
    for place, step in enumerate((numbers % np.arange(count, 1, -1)).tolist()):
        order[place], order[place + step] = order[place + step], order[place]
    return np.array(order, dtype=np.int64)
