"""Stochastic Weight Averaging: the members of a tail at a constant or cyclic rate, averaged (Izmailov et al. 2018)."""

from __future__ import annotations

from trainer.methods.cycles import TailMethod
from trainer.methods.method import NOT_OF_ONE_NETWORK
from trainer.schedule import Schedule


class WeightAveraging(TailMethod):
    """In its tail the rate may stay constant instead of falling in each cycle."""

    def cycles_rate(self, schedule: Schedule, step: int, first: int, end: int) -> float:
        if schedule.config.tail_schedule == "constant":
            return schedule.config.tail_learning_rate
        return super().cycles_rate(schedule, step, first, end)


SWA = WeightAveraging(
    "swa",
    "Stochastic Weight Averaging (Izmailov et al. 2018)",
    ("midpoint",),
    members=6,
    foreign_settings=(*NOT_OF_ONE_NETWORK, "shared", "early_stopping"),
)
