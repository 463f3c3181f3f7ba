"""Deep ensembles, whose members are separate trajectories, from the start or from some epoch on (appendix H)."""

from __future__ import annotations

from trainer.methods.method import NOT_OF_ONE_NETWORK, TAIL_SETTINGS, Method

ENSEMBLE = Method(
    "ensemble",
    "networks trained one after another, independently or from a shared beginning (appendix H)",
    ("endpoints",),
    members=2,
    whole_trajectories=True,
    foreign_settings=(*NOT_OF_ONE_NETWORK, *TAIL_SETTINGS, "early_stopping"),
)
