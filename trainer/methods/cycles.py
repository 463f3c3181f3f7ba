"""Cycles of one trajectory, each of which yields a member (appendix D.4)."""

from __future__ import annotations

from trainer.methods.method import Method
from trainer.schedule import Schedule

CYCLE_DEPTH = 100
"""The rate falls to a hundredth of what it starts with in a cycle of the tail (Garipov et al. 2018, section 5)."""


class CyclicMethod(Method):
    """Keeps a member at the end of each of the equal cycles of a run."""

    def first_cycle(self, schedule: Schedule) -> int:
        """Return the step with which the first cycle starts."""
        return 0

    def cycles(self, schedule: Schedule) -> list[tuple[int, int]]:
        """Return each member's cycle: its first step, and the step after its last."""
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
        """Return the learning rate of a step, in the cycle from step `first` up to but excluding step `end`."""
        raise NotImplementedError


class TailMethod(CyclicMethod):
    """Trains like a standard network, and has its cycles in the last part of the run."""

    def first_cycle(self, schedule: Schedule) -> int:
        # The tail has at least one step per member.
        return min(round((1 - schedule.config.tail) * schedule.steps), schedule.steps - schedule.config.members)

    def cycles_rate(self, schedule: Schedule, step: int, first: int, end: int) -> float:
        # Reaches 1 with a cycle's last step (Izmailov et al. 2018, section 3.1; Garipov et al. 2018, section 5).
        fallen = self.fallen((step - first + 1) / (end - first))
        peak = schedule.config.tail_learning_rate
        return peak * (1 - fallen) + peak / CYCLE_DEPTH * fallen

    def fallen(self, position: float) -> float:
        """Return how far the rate has fallen, from 0 to 1, at a position in its cycle, from 0 to 1: here linearly."""
        return position
