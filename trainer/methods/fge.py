"""Fast Geometric Ensembling: short triangular cycles at the end of a run (Garipov et al. 2018)."""

from __future__ import annotations

from trainer.methods.cycles import TailMethod
from trainer.methods.method import NOT_OF_ONE_NETWORK
from trainer.schedule import Schedule


class _GeometricEnsembling(TailMethod):
    """The rate falls until the middle of a cycle, where the member is kept, and rises again."""

    def kept_after(self, schedule: Schedule) -> list[int]:
        return [first + (end - first - 1) // 2 for first, end in self.cycles(schedule)]

    def fallen(self, position: float) -> float:
        return 1 - abs(1 - 2 * position)


FGE = _GeometricEnsembling(
    "fge",
    "Fast Geometric Ensembling: short cycles at the end of the run (Garipov et al. 2018)",
    ("endpoints",),
    members=6,
    foreign_settings=(*NOT_OF_ONE_NETWORK, "tail_schedule", "shared", "early_stopping"),
)
