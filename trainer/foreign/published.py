"""Checkpoints of the paper's published code: all endpoints of a subspace in one state dict.

A layer's tensors `weight` and `bias` are those of the first endpoint, `weight1` and `bias1` those of the second, and so
on. Of a curve the first two are its ends, and the third is the bend, as in `Geometry`. The running statistics are those
of whatever places training drew last, and belong to no endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Container

from torch import Tensor

_FURTHER = re.compile(r"(?P<base>.*(?:weight|bias))(?P<endpoint>[1-9])")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def split_endpoints(tensors: dict[str, Tensor], known: Container[str]) -> list[dict[str, Tensor]]:
    """Return the endpoints' tensors, each under the layer's own names; all tensors as they are where there is one.

    Args:
        tensors: of a state dict.
        known: names that the network itself has, which are no further endpoints.
    """
    further: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _FURTHER.fullmatch(name)
        if match and name not in known and match["base"] in tensors:
            further.setdefault(int(match["endpoint"]), {})[match["base"]] = tensor
    if not further:
        return [tensors]
    first = {
        name: tensor
        for name, tensor in tensors.items()
        if name.rpartition(".")[2] not in _STATISTICS and not (_FURTHER.fullmatch(name) and name not in known)
    }
    return [first, *(further[endpoint] for endpoint in sorted(further))]
