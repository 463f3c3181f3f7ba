"""Random orders by seed: those that torch drew for what is on record."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from subspace_serve.data import permutation
from subspace_serve.errors import DataError


@pytest.mark.parametrize(
    ("count", "seed", "order"),
    [
        (0, 0, []),
        (1, 0, [0]),
        (10, 0, [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]),
        (10, 7, [5, 0, 3, 4, 1, 7, 9, 6, 8, 2]),
    ],
)
def test_short_orders_written_down(count, seed, order):
    found = permutation(count, seed)
    assert found.dtype == np.int64
    assert found.tolist() == order


def test_long_orders_written_down():
    assert permutation(1000, 1)[:5].tolist() == [845, 303, 66, 436, 239]
    long = permutation(40_000, 2**31)
    assert long[-5:].tolist() == [26903, 34334, 37288, 20584, 20033]
    assert np.array_equal(np.sort(long), np.arange(40_000))
    digest = hashlib.sha256(long.astype("<i8").tobytes()).hexdigest()
    assert digest == "ecb3b5de411ab0fca702f7329b3a452654ed571cc5394039881b33003d17c183"


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1000, 40_000])
@pytest.mark.parametrize("seed", [0, 1, 7, 2**31, 2**32 - 1, 2**32 + 5, 2**40 + 3])
def test_orders_are_those_of_torch(count, seed):
    torch = pytest.importorskip("torch")
    expected = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    assert permutation(count, seed).tolist() == expected.tolist()


def test_more_than_torch_orders_in_this_way_are_refused():
    with pytest.raises(DataError, match="fewer than 214748364 images; found 214748364"):
        permutation(214_748_364, 0)
