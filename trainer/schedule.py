"""What changes from step to step: learning rate (each method has its own), beta, and how far drawn places spread."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a circular import otherwise: the settings import the methods, which import this module
    from trainer.config import TrainingConfig

MAXIMAL_WARMUP = 0.25
SPREAD_EPOCHS, SPREAD_STEPS = 10, 300
"""How long drawn places spread unless told otherwise: the longer of the two (docs/recipe.md)."""


@dataclass(frozen=True)
class StepSettings:
    """The settings of one step.

    Attributes:
        learning_rate: step size.
        beta: strength of the regulariser.
        spread: how far from the midpoint places are drawn: 0 is the midpoint alone, 1 the whole subspace.
        together: whether the endpoints have not parted yet: all are one network, and take the same step.
    """

    learning_rate: float
    beta: float = 1.0
    spread: float = 1.0
    together: bool = False


@dataclass(frozen=True)
class Schedule:
    """The settings of every step of one trajectory.

    Attributes:
        config: the run's settings.
        steps_per_epoch: how many steps an epoch has.
    """

    config: TrainingConfig
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Steps of the whole trajectory."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """Steps of warm-up that were asked for; a short trajectory has fewer (`warm_cosine`)."""
        return round(self.config.warmup_epochs * self.steps_per_epoch)

    @property
    def spreading_steps(self) -> float:
        """Steps in which drawn places spread from the midpoint; 0 draws them from all of the subspace at once."""
        if self.config.spread is None:
            return max(SPREAD_EPOCHS * self.steps_per_epoch, SPREAD_STEPS)
        return self.config.spread * self.steps

    def at(self, step: int) -> StepSettings:
        """Return the settings of a step, counted from 0."""
        config = self.config
        parting = config.shared_epochs * self.steps_per_epoch if config.members == 0 else 0
        done = step / self.steps
        beta = config.beta * {"constant": 1.0, "growing": done, "fading": 1 - done}[config.beta_schedule]
        # The spread grows from where the endpoints part, and is complete by the end however late they part.
        since = (step - parting) / max(min(self.spreading_steps, self.steps - parting), 1)
        spread = min(1.0, max(0.0, since)) if self.spreading_steps else 1.0
        return StepSettings(config.method.learning_rate(self, step), beta, spread, together=step < parting)

    def kept_after(self) -> list[int]:
        """Return the steps, counted from 0, after which a member is kept (see `Method.kept_after`)."""
        return self.config.method.kept_after(self)


def warm_cosine(step: int, *, peak: float, total: int, warmup: int) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to zero.

    Args:
        step: number of the step, from 0.
        peak: the rate that warm-up reaches.
        total: how many steps there are.
        warmup: steps of warm-up; more than a quarter of all are cut to that, to leave a short run steps to anneal.
    """
    warmup = min(warmup, int(MAXIMAL_WARMUP * total))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
