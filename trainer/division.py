"""How several ranks divide a batch, and how their gradients come together.

A batch is split into S groups with an alpha each (appendix B). With W ranks, and S a multiple of W, each rank takes S/W
groups: appendix B's several samples at the price of one. With W a multiple of S, and S = 1 is the usual, W/S ranks
share a group and its alpha, and each takes its part of the group's images. All ranks draw the same alphas from the same
seed, so nothing but gradients of collapsed networks is exchanged; of one alpha that is n numbers a step, however many
endpoints there are.
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
    """What of every batch this rank takes.

    Attributes:
        samples: S, the groups of a batch.
        ranks: who shares it.
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
        """The groups of which this rank has images."""
        if self.sharers > 1:
            first = self.ranks.rank // self.sharers
            return range(first, first + 1)
        own = self.samples // self.ranks.world_size
        return range(self.ranks.rank * own, (self.ranks.rank + 1) * own)

    def part(self, count: int) -> slice:
        """Return which images of a batch of `count` this rank takes.

        Raises:
            TrainingError: it would have none.
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
        """Return what this rank's images are of their groups' in a batch of `count`: 1 where a rank has whole groups.

        A group's loss is the mean over its images, so a part's loss counts by its size.
        """
        if self.sharers == 1:
            return 1.0
        starts, part = _starts(count, self.samples), self.part(count)
        return (part.stop - part.start) / (starts[self.groups.stop] - starts[self.groups.start])

    def sums_endpoints(self, endpoints: int) -> bool:
        """Return whether the endpoints' gradients are summed rather than all groups' gathered, to send fewer numbers.

        Gathering brings each rank S n numbers; a sum of shape (m, n) goes around twice.
        """
        return self.ranks.world_size > 1 and self.sharers == 1 and self.samples > 2 * endpoints

    def all_gradients(self, own: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients of every group's network, the same on every rank, from those of this rank's.

        Args:
            own: of each group of this rank, shape (n,); with one group (S = 1), of each network that it runs. May be
                overwritten.
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
    """Return where the parts of `count` begin, and where the last one ends, as `Tensor.tensor_split` divides."""
    size, larger = divmod(count, parts)
    return [index * size + min(index, larger) for index in range(parts + 1)]
