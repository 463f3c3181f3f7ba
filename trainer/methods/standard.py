"""Standard training: one network."""

from __future__ import annotations

from trainer.methods.method import NOT_OF_ONE_NETWORK, TAIL_SETTINGS, Method

STANDARD = Method(
    "standard",
    "one ordinary network",
    ("midpoint",),
    foreign_settings=(*NOT_OF_ONE_NETWORK, *TAIL_SETTINGS, "shared"),
)
