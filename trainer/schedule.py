"""What changes from step to step: the learning rate, which is the method's, and how far drawn places spread."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config import TrainingConfig


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

    @property
    def warmup_steps(self) -> int:
        """Steps of warm-up that are wanted; a short trajectory has fewer."""
        return round(self.config.warmup_epochs * self.steps_per_epoch)

    def at(self, step: int) -> StepSettings:
        """Return what holds in a step, counted from 0."""
        config = self.config
        parting = config.shared_epochs * self.steps_per_epoch if config.members == 0 else 0
        done = step / self.steps
        beta = config.beta * {"constant": 1.0, "growing": done, "fading": 1 - done}[config.beta_schedule]
        # The spread grows from where the endpoints part, and is whole at the end however late that is.
        since = (step - parting) / max(min(config.spread * self.steps, self.steps - parting), 1)
        spread = min(1.0, max(0.0, since)) if config.spread else 1.0
        return StepSettings(config.method.learning_rate(self, step), beta, spread, together=step < parting)

    def kept_after(self) -> list[int]:
        """Return the steps, counted from 0, after which a member is kept (see `Method.kept_after`)."""
        return self.config.method.kept_after(self)
