"""Pickles that hold arrays, strings, numbers, lists and dictionaries, and nothing that could run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.errors import DataError

# What an array's pickle calls, by name: NumPy 1 and 2 name it differently.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Plain(pickle.Unpickler):
    """Unpickles arrays and Python's plain values; anything else is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _ALLOWED[module, name]


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of plain values and arrays, written by Python 2 or 3 (protocol 4 at most).

    Raises:
        DataError: it is damaged or holds anything else.
    """
    try:
        with open(path, "rb") as file:
            return _Plain(file, encoding="latin1").load()
    except Exception as error:  # damaged pickles raise errors of every kind
        raise DataError(
            f"{path} is no pickle of plain values and arrays ({error}); it stays unread: get it again"
        ) from error
