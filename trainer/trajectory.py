"""The epochs of a run in order: one trajectory, or several, one after another, for an ensemble (appendix H).

An ensemble's members share the first epochs of one trajectory; with nothing to share they are independent networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from subspace_serve.space.subspace import Weights
from trainer.config import TrainingConfig
from trainer.parameters import EndpointMatrix
from trainer.progress import Progress


@dataclass(frozen=True)
class Epoch:
    """One epoch of a run's plan.

    Attributes:
        member: the trajectory that it belongs to, from 0; shared epochs belong to the first.
        index: its number in that trajectory, from 0.
    """

    member: int
    index: int

    def purpose(self, name: str) -> str:
        """Return the purpose for this trajectory's random numbers; the first draws the same as a standard network."""
        return f"{name}:{self.member}" if self.member else name


def planned_epochs(config: TrainingConfig) -> list[Epoch]:
    """Return every epoch of a run in order."""
    shared = [Epoch(0, index) for index in range(config.shared_epochs)]
    parted = range(config.shared_epochs, config.epochs)
    own = [Epoch(member, index) for member in range(config.trajectories) for index in parted]
    return shared + own


def enter(
    epoch: Epoch, config: TrainingConfig, endpoints: EndpointMatrix, progress: Progress, start: Sequence[Weights]
) -> None:
    """If an epoch is the first of a later trajectory, set the endpoints to where that trajectory begins."""
    if epoch.member == 0 or epoch.index != config.shared_epochs:
        return
    if progress.parting is not None:
        endpoints.values.copy_(progress.parting[0])
        endpoints.velocity.copy_(progress.parting[1])
    else:
        endpoints.set_endpoints([start[epoch.member]])
        endpoints.velocity.zero_()


def starts_remain(config: TrainingConfig, progress: Progress) -> bool:
    """Return whether a network has yet to start from its own starting point: the first one, or a later member."""
    if progress.epochs == 0:
        return True
    left = planned_epochs(config)[progress.epochs :]
    return not config.shared_epochs and any(epoch.member > 0 and epoch.index == 0 for epoch in left)


def leave(epoch: Epoch, config: TrainingConfig, endpoints: EndpointMatrix, progress: Progress) -> None:
    """Keep what an ensemble's epoch leaves, if anything: the state where trajectories part, or a finished member."""
    if config.trajectories == 1:
        return
    if epoch == Epoch(0, config.shared_epochs - 1):
        progress.parting = torch.stack([endpoints.values, endpoints.velocity])
    if epoch.index == config.epochs - 1:
        progress.keep(endpoints)
        # With everything shared all members are the same network.
        while config.shared_epochs == config.epochs and len(progress.members) < config.members:
            progress.keep(endpoints)
