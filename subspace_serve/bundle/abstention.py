"""What a bundle keeps of labelled images, so that error rates can be promised where the unsure answers are left out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from typing import Annotated, Literal

from pydantic import Field, model_validator

from subspace_serve.abstention import FINE_SHARES, Level, choose
from subspace_serve.bundle.record import Count, Record, Share, Unit


class AbstentionLevel(Record):
    """A candidate threshold: how many images score above it, and how many of them are answered wrongly."""

    threshold: Annotated[float, Field(ge=-1)]
    answered: Annotated[int, Field(ge=0)]
    wrong: Annotated[int, Field(ge=0)]


class RiskMeasured(Record):
    """How well the score ranks answers, on `images` images: `held_out` ones, or those of the levels.

    `aurc` is the area under the risk-coverage curve: the mean, over all shares of images answered surest first, of the
    error rate among them. `answered_at_5_percent` is the largest share whose error rate is at most 5 %.
    """

    images: Count
    held_out: bool
    aurc: Unit
    answered_at_5_percent: Unit


class Abstention(Record):
    """What answers a request for any error rate: on `count` images of `data`, the `levels` of the answers' score.

    The score is the largest probability. The rate is promised with probability 1 - `delta`, over those images.
    """

    score: Literal["max_probability"] = "max_probability"
    data: str
    count: Count
    delta: Share
    levels: Annotated[tuple[AbstentionLevel, ...], Field(min_length=1, max_length=len(FINE_SHARES))]
    measured: RiskMeasured | None = None

    _where_used = ("measured",)

    @cached_property
    def choose(self) -> Callable[[float], Level | None]:
        """A function from a risk to the level that answers most among those whose error rate is proven, or None.

        What it found lately it keeps.
        """
        levels = [Level(level.threshold, level.answered, level.wrong) for level in self.levels]
        return lru_cache(maxsize=64)(partial(choose, levels, delta=self.delta))

    @model_validator(mode="after")
    def _fits(self) -> Abstention:
        if self.levels[-1].answered != self.count:
            raise ValueError(f"the last level must answer all {self.count} images; got {self.levels[-1].answered}")
        if any(level.wrong > level.answered for level in self.levels):
            raise ValueError("a level answers no more wrongly than it answers")
        return self
