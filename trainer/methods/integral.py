"""One network that answers as the average of a whole line (appendix C)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.methods.method import SUBSPACE_SETTINGS, TAIL_SETTINGS, Method

if TYPE_CHECKING:
    from trainer.step import Stepper


class _Integral(Method):
    def stepper(self) -> type[Stepper]:
        from trainer.integral import IntegralStepper

        return IntegralStepper


INTEGRAL = _Integral(
    "integral",
    "a line whose networks are all averaged by one (appendix C)",
    ("integral=endpoint:1",),
    "line",
    2,
    # Clipping would act on each of its three networks, whose large gradients nearly cancel. And in bfloat16 the small
    # difference between two outputs would be lost.
    foreign_settings=(*SUBSPACE_SETTINGS, *TAIL_SETTINGS, "shared", "early_stopping", "clip_gradient", "precision"),
)
