"""Cycles of one trajectory, of each of which a member is kept (appendix D.4)."""

from __future__ import annotations

from trainer.methods.method import Method
from trainer.schedule import Schedule

CYCLE_DEPTH = 100
"""A cycle of the tail falls to the hundredth part of the rate that it starts with (Garipov et al. 2018, section 5)."""


class CyclicMethod(Method):
    """Keeps a member at the end of each of the equal cycles of a run."""

    def first_cycle(self, schedule: Schedule) -> int:
        """Return the step with which the first cycle starts."""
        return 0

    def cycles(self, schedule: Schedule) -> list[tuple[int, int]]:
        """Return the first step and the end of each member's cycle."""
        members, start = schedule.config.members, self.first_cycle(schedule)
        ends = [round(start + (index + 1) * (schedule.steps - start) / members) for index in range(members)]
        return list(zip([start, *ends], ends, strict=False))

    def kept_after(self, schedule: Schedule) -> list[int]:
        return [end - 1 for _, end in self.cycles(schedule)]

    def learning_rate(self, schedule: Schedule, step: int) -> float:
        if step < self.first_cycle(schedule):
            return super().learning_rate(schedule, step)
        first, end = next((first, end) for first, end in self.cycles(schedule) if step < end)
        return self.cycles_rate(schedule, step, first, end)

    def cycles_rate(self, schedule: Schedule, step: int, first: int, end: int) -> float:
        """Return the step size of a step of the cycle from step `first` to before step `end`."""
        raise NotImplementedError


class TailMethod(CyclicMethod):
    """Has its cycles at the end of a run that is a standard network's until there."""

    def first_cycle(self, schedule: Schedule) -> int:
        # A tail has a step for each member at least.
        return min(round((1 - schedule.config.tail) * schedule.steps), schedule.steps - schedule.config.members)

    def cycles_rate(self, schedule: Schedule, step: int, first: int, end: int) -> float:
        # Reaches 1 with a cycle's last step (Izmailov et al. 2018, section 3.1; Garipov et al. 2018, section 5).
        fallen = self.fallen((step - first + 1) / (end - first))
        peak = schedule.config.tail_learning_rate
        return peak * (1 - fallen) + peak / CYCLE_DEPTH * fallen

    def fallen(self, position: float) -> float:
        """Return how far the rate has fallen at a position of its cycle, both from 0 to 1: linearly."""
        return position
