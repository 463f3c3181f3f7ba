"""Snapshot Ensembles: cosine cycles with a member at the end of each (Huang et al. 2017)."""

from __future__ import annotations

from trainer.methods.cycles import CyclicMethod
from trainer.methods.method import NOT_OF_ONE_NETWORK, TAIL_SETTINGS
from trainer.schedule import Schedule, warm_cosine


class _Snapshots(CyclicMethod):
    def cycles_rate(self, schedule: Schedule, step: int, first: int, end: int) -> float:
        warmup = schedule.warmup_steps if first == 0 else 0
        return warm_cosine(step - first, peak=schedule.config.learning_rate, total=end - first, warmup=warmup)


SNAPSHOT = _Snapshots(
    "snapshot",
    "a Snapshot Ensemble: cosine cycles with a member at the end of each (Huang et al. 2017)",
    ("endpoints",),
    members=6,
    foreign_settings=(*NOT_OF_ONE_NETWORK, *TAIL_SETTINGS, "shared", "early_stopping"),
)
