"""What changes from step to step: the learning rate, and how far the places that are drawn spread.

The learning rate is a linear warm-up and then a cosine to zero (section 4); the baselines that keep members of one
trajectory have cycles of their own (appendix D.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.config import TrainingConfig

MAXIMAL_WARMUP = 0.25
CYCLE_DEPTH = 100
"""A cycle of the tail falls to the hundredth part of the rate that it starts with (Garipov et al. 2018, section 5)."""
TAILED = ("swa", "swag", "fge")
"""Methods that keep members of the run's tail."""


@dataclass(frozen=True)
class StepSettings:
    """What holds in one step.

    Attributes:
        learning_rate: step size.
        beta: strength of the regulariser.
        spread: how far places lie from the midpoint: 0 is the midpoint alone, 1 the whole subspace.
        together: the endpoints have not parted: all are one network, and take the same step.
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

    def at(self, step: int) -> StepSettings:
        """Return what holds in a step, counted from 0."""
        config = self.config
        parting = config.shared_epochs * self.steps_per_epoch if config.members == 0 else 0
        done = step / self.steps
        beta = config.beta * {"constant": 1.0, "growing": done, "fading": 1 - done}[config.beta_schedule]
        # The spread grows from where the endpoints part, and is whole at the end however late that is.
        since = (step - parting) / max(min(config.spread * self.steps, self.steps - parting), 1)
        spread = min(1.0, max(0.0, since)) if config.spread else 1.0
        return StepSettings(self.learning_rate(step), beta, spread, together=step < parting)

    def learning_rate(self, step: int) -> float:
        """Return the step size of a step, counted from 0."""
        config = self.config
        if config.subspace == "snapshot":
            return self._snapshot(step)
        if config.subspace in TAILED and step >= self._tail_start:
            return self._tail(step)
        warmup = round(config.warmup_epochs * self.steps_per_epoch)
        return warm_cosine(step, peak=config.learning_rate, total=self.steps, warmup=warmup)

    def kept_after(self) -> list[int]:
        """Return the steps, counted from 0, after which a member is kept; the same number as there are members.

        Empty where members are whole trajectories (`ensemble`) or the endpoints themselves.
        """
        if self.config.subspace == "fge":
            return [first + (end - first - 1) // 2 for first, end in self._cycles]
        if self.config.subspace == "snapshot" or self.config.subspace in TAILED:
            return [end - 1 for _, end in self._cycles]
        return []

    @property
    def _tail_start(self) -> int:
        # A tail has a step for each member at least.
        return min(round((1 - self.config.tail) * self.steps), self.steps - self.config.members)

    @property
    def _cycles(self) -> list[tuple[int, int]]:
        """First step and end of each member's share of the run, or of its tail."""
        members, start = self.config.members, 0 if self.config.subspace == "snapshot" else self._tail_start
        ends = [round(start + (index + 1) * (self.steps - start) / members) for index in range(members)]
        return list(zip([start, *ends], ends, strict=False))

    def _cycle_of(self, step: int) -> tuple[int, int]:
        return next((first, end) for first, end in self._cycles if step < end)

    def _tail(self, step: int) -> float:
        if self.config.subspace != "fge" and self.config.tail_schedule == "constant":
            return self.config.tail_learning_rate
        first, end = self._cycle_of(step)
        # Reaches 1 with a cycle's last step (Izmailov et al. 2018, section 3.1; Garipov et al. 2018, section 5).
        position = (step - first + 1) / (end - first)
        # An FGE's goes down to the middle of a cycle and up again.
        return self._between(1 - abs(1 - 2 * position) if self.config.subspace == "fge" else position)

    def _between(self, position: float) -> float:
        """Return the rate at a position of a cycle's fall, from 0 to 1."""
        peak = self.config.tail_learning_rate
        return peak * (1 - position) + peak / CYCLE_DEPTH * position

    def _snapshot(self, step: int) -> float:
        first, end = self._cycle_of(step)
        warmup = round(self.config.warmup_epochs * self.steps_per_epoch) if first == 0 else 0
        return warm_cosine(step - first, peak=self.config.learning_rate, total=end - first, warmup=warmup)


def warm_cosine(step: int, *, peak: float, total: int, warmup: int) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to zero.

    Args:
        step: number of the step, from 0.
        peak: the rate that warm-up reaches.
        total: steps in all.
        warmup: steps of warm-up, at most a quarter of all (a short run would have nothing left to anneal).
    """
    warmup = min(warmup, int(MAXIMAL_WARMUP * total))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
