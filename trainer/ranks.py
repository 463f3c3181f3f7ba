"""Several processes that train together, as `torchrun` starts them: who they are, and what they exchange.

A rank is one process of the group, on this machine or another. Without torchrun there is one rank, and everything here
returns what it was given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from subspace_serve.errors import RankError
from trainer.devices import choose_device

TIMEOUT_VARIABLE = "SUBSPACE_SERVE_RANKS_TIMEOUT"
DEFAULT_TIMEOUT = 1800.0
"""Seconds that a rank waits for another. A rank that died is noticed at once; this is for one that hangs."""

_SPOKEN = "subspace_serve/spoken"
_SHOWN = 60

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes that train together; `Ranks()` is this one alone.

    The methods that exchange values must be called by all ranks, in the same order. `device`, `speaks` and `close` may
    be called by any rank on its own.

    Attributes:
        rank: which one this is, from 0.
        world_size: how many there are.
        local_rank: which one this is on its machine, from 0.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @staticmethod
    def current(timeout: float | None = None) -> Ranks:
        """Return the ranks that torchrun started, and form their group unless it exists already.

        The group uses gloo, and nccl for CUDA where every rank has a device of its own. Reads RANK, WORLD_SIZE and
        LOCAL_RANK; without them this process is alone.

        Args:
            timeout: seconds that a rank waits for another; None takes SUBSPACE_SERVE_RANKS_TIMEOUT, or half an hour.

        Raises:
            RankError: the variables are not those of torchrun, or not every rank joined in time.
        """
        rank, world_size = _whole_number("RANK", 0), _whole_number("WORLD_SIZE", 1)
        local_rank = _whole_number("LOCAL_RANK", 0)
        if distributed.is_available() and distributed.is_initialized():
            return Ranks(distributed.get_rank(), distributed.get_world_size(), local_rank)
        if world_size <= 1:
            return Ranks(local_rank=local_rank)
        seconds = _seconds() if timeout is None else timeout
        try:
            distributed.init_process_group(_backend(), timeout=timedelta(seconds=seconds))
        except (RuntimeError, ValueError) as error:
            raise RankError(
                f"rank {rank} of {world_size} found no group within {seconds:g} s ({_reason(error)}); start all ranks "
                "with torchrun, with one --rdzv-endpoint that every machine can reach"
            ) from error
        return Ranks(rank, world_size, local_rank)

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the group; the other ranks notice."""
        if self.world_size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that prints and writes files."""
        return self.rank == 0

    def device(self, name: str = "auto") -> torch.device:
        """Return where this rank computes: on CUDA, the device numbered like its local rank, unless one is named.

        A device with a number becomes the process's current one, as CUDA graphs are recorded there.

        Raises:
            SubspaceServeError: as `choose_device`.
        """
        device = choose_device(name)
        if device.type == "cuda" and device.index is None and self.world_size > 1:
            device = torch.device("cuda", self.local_rank % torch.cuda.device_count())
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
        return device

    def everyones(self, value: T) -> list[T]:
        """Return every rank's value, in the order of ranks."""
        values: list[Any] = [value]
        if self.world_size > 1:
            values *= self.world_size
            with _others_watched():
                distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """Return the first rank's value."""
        values = [value]
        if self.world_size > 1:
            with _others_watched():
                distributed.broadcast_object_list(values)
        return values[0]

    def broadcast_(self, tensor: Tensor) -> None:
        """Overwrite a contiguous tensor with the first rank's."""
        if self.world_size > 1:
            with _others_watched():
                distributed.broadcast(tensor, 0)

    def reduce_(self, tensor: Tensor) -> None:
        """Overwrite a contiguous tensor with the sum of all ranks'; every rank gets the same bits."""
        if self.world_size > 1:
            with _others_watched():
                distributed.all_reduce(tensor)

    def stack(self, tensor: Tensor) -> Tensor:
        """Return every rank's contiguous tensor, in the order of ranks, shape (world_size, *shape)."""
        if self.world_size == 1:
            return tensor.unsqueeze(0)
        stacked = tensor.new_empty(self.world_size, *tensor.shape)
        with _others_watched():
            distributed.all_gather(list(stacked.unbind()), tensor)
        return stacked

    def check_same(self, what: str, value: Any) -> None:
        """Check that every rank has the same JSON value.

        Args:
            what: names the value in the message: "rank 1 has other WHAT than rank 0".
            value: this rank's; if it is a mapping, only the keys that differ are shown.

        Raises:
            RankError: on every rank, if any differs from rank 0.
        """
        first, *others = self.everyones(value)
        differing = [rank for rank, other in enumerate(others, 1) if other != first]
        if differing:
            named = f"rank {differing[0]} has" if len(differing) == 1 else f"ranks {_listed(differing)} have"
            found, expected = _difference(others[differing[0] - 1], first)
            raise RankError(
                f"{named} other {what} than rank 0: {found} instead of {expected}; start every rank with the same"
            )

    def speaks(self) -> bool:
        """Return whether this rank is the first to ask, so that an error on all ranks is printed once.

        A rank may call this whether or not the others do.
        """
        if self.world_size == 1 or not distributed.is_initialized():
            return True
        try:
            return distributed.distributed_c10d._get_default_store().add(_SPOKEN, 1) == 1
        except RuntimeError:  # the store is gone, with the rank or the torchrun that kept it
            return True


@contextmanager
def _others_watched() -> Iterator[None]:
    """Turn torch's error about a rank that is gone into one sentence."""
    try:
        yield
    except RuntimeError as error:
        raise RankError(
            f"another rank ended or cannot be reached any more ({_reason(error)}); see what it said itself. A training "
            "run goes on with --resume RUN"
        ) from error


def _backend() -> str:
    """Return gloo, with nccl for CUDA where every rank of this machine has its own device, as nccl requires."""
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    enough = devices >= _whole_number("LOCAL_WORLD_SIZE", 1)
    return "cpu:gloo,cuda:nccl" if devices and enough and distributed.is_nccl_available() else "gloo"


def _whole_number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise RankError(f"the environment's {variable} is {text!r}, no whole number; start with torchrun, or unset it")
    return int(text)


def _seconds() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, str(DEFAULT_TIMEOUT))
    if not re.fullmatch(r"\d+(\.\d+)?", text) or float(text) == 0:
        raise RankError(f"{TIMEOUT_VARIABLE} is {text!r}; give a number of seconds")
    return float(text)


def _reason(error: Exception) -> str:
    """Return the first sentence of torch's message, without its source locations."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"\[\S*\.(cc|cpp|h):\d+\]\s*", "", line).split(". ")[0].rstrip(".")


def _difference(found: Any, expected: Any) -> tuple[str, str]:
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        keys = [key for key in {**expected, **found} if found.get(key) != expected.get(key)]
        return tuple(", ".join(f"{key} {_shown(of.get(key))}" for key in keys) for of in (found, expected))  # type: ignore[return-value]
    return _shown(found), _shown(expected)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _listed(ranks: Sequence[int]) -> str:
    return f"{', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"
