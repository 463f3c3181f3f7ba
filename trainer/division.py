"""How several ranks divide a batch, and how their gradients are combined.

A batch is split into S groups, each with its own alpha (appendix B). With W ranks, and S a multiple of W, each rank
takes S/W groups: with S = W, appendix B's several samples at the price of one. With W a multiple of S (S = 1 being the
usual case), W/S ranks share a group and its alpha, and each takes its part of the group's images. All ranks draw the
same alphas from the same seed, so a step exchanges gradients only: those of the collapsed networks (for one alpha n
numbers, however many endpoints there are), or, where there are many groups, those of the endpoints if that is less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from subspace_serve.errors import TrainingError
from trainer.ranks import Ranks


@dataclass(frozen=True)
class Division:
    """Which part of every batch this rank takes.

    Attributes:
        samples: S, the number of groups in a batch.
        ranks: the processes that share it.

    Raises:
        TrainingError: neither S nor the number of ranks is a multiple of the other.
    """

    samples: int
    ranks: Ranks = field(default_factory=Ranks)

    def __post_init__(self) -> None:
        world_size = self.ranks.world_size
        if self.samples % world_size and world_size % self.samples:
            raise TrainingError(
                f"{self.samples} samples of a batch are not to be divided among {world_size} ranks; give --samples "
                f"{world_size} (or a multiple: places of its own for each rank), 1 (one place for all ranks), or "
                "another number of ranks"
            )

    @property
    def sharers(self) -> int:
        """How many ranks share a group; 1 where a rank has groups of its own."""
        return max(1, self.ranks.world_size // self.samples)

    @property
    def groups(self) -> range:
        """The groups that this rank has images of."""
        if self.sharers > 1:
            first = self.ranks.rank // self.sharers
            return range(first, first + 1)
        own = self.samples // self.ranks.world_size
        return range(self.ranks.rank * own, (self.ranks.rank + 1) * own)

    def part(self, count: int) -> slice:
        """Return which images of a batch of `count` this rank takes.

        Raises:
            TrainingError: it would get none.
        """
        starts = _starts(count, self.samples)
        first, last = starts[self.groups.start], starts[self.groups.stop]
        if self.sharers > 1:
            within = _starts(last - first, self.sharers)
            position = self.ranks.rank % self.sharers
            first, last = first + within[position], first + within[position + 1]
        if last == first:
            raise TrainingError(
                f"a batch of {count} images cannot be divided among {self.ranks.world_size} ranks; give larger batches "
                "or fewer ranks"
            )
        return slice(first, last)

    def weight(self, count: int) -> float:
        """Return this rank's share of the images of its groups, in a batch of `count`; 1 where it has whole groups.

        A group's loss is the mean over its images, so a part's loss counts by its size.
        """
        if self.sharers == 1:
            return 1.0
        starts, part = _starts(count, self.samples), self.part(count)
        return (part.stop - part.start) / (starts[self.groups.stop] - starts[self.groups.start])

    def sums_endpoints(self, endpoints: int) -> bool:
        """Return whether to sum the endpoints' gradients instead of gathering all groups', to send fewer numbers.

        Gathering sends each rank S n numbers; summing a matrix of shape (m, n) sends it twice.
        """
        return self.ranks.world_size > 1 and self.sharers == 1 and self.samples > 2 * endpoints

    def all_gradients(self, own: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients of every group's network, the same on every rank, from those of this rank's.

        Args:
            own: one of shape (n,) for each group of this rank; with one group (S = 1), for each network that it runs.
                May be overwritten.
        """
        if self.ranks.world_size == 1:
            return list(own)
        if self.sharers == 1:
            return list(self.ranks.stack(torch.stack(list(own))).flatten(0, 1))
        if self.samples > 1:
            gradients = own[0].new_zeros(self.samples, len(own[0]))
            gradients[self.groups.start] = own[0]
            self.ranks.reduce_(gradients)
            return list(gradients)
        for gradient in own:
            self.ranks.reduce_(gradient)
        return list(own)


def _starts(count: int, parts: int) -> list[int]:
    """Return where each part of `count` begins and the last one ends, dividing as `Tensor.tensor_split` does."""
    size, larger = divmod(count, parts)
    return [index * size + min(index, larger) for index in range(parts + 1)]
