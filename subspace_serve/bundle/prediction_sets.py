"""What a bundle keeps of labelled images, so that prediction sets can be promised of its answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from typing import Annotated

from pydantic import Field, model_validator

from subspace_serve import prediction_sets
from subspace_serve.bundle.record import Count, Record, Share, Unit


class CoverageMeasured(Record):
    """How often sets held the right label, on `images` others than those that calibrated them.

    `class_coverage` is by class, in the order of the labels, with null where there is no image of a class; `mean_size`
    is the mean number of labels in a set.
    """

    images: Count
    asked: Share
    coverage: Unit
    class_coverage: tuple[Unit | None, ...]
    mean_size: Annotated[float, Field(ge=1)]


class Sets(Record):
    """What answers a request for any coverage that `count` images support: their right labels' scores, sorted.

    `method`, `k_reg` and `penalty` are those of `subspace_serve.prediction_sets.label_scores`; `scores` are all of
    them, or of more than 1,000 those at evenly spaced ranks (`kept_scores`). `data` and `seed` say which images they
    are: they chose neither the place nor the temperature, nor `k_reg` and `penalty`, which `tuned_on` others did.
    """

    method: prediction_sets.Method
    data: str
    count: Count
    seed: int
    k_reg: Count | None = None
    penalty: Annotated[float, Field(ge=0)] | None = None
    tuned_on: Count | None = None
    scores: Annotated[tuple[float, ...], Field(min_length=1, max_length=prediction_sets.MOST_SCORES)]
    measured: CoverageMeasured | None = None

    _where_used = ("k_reg", "penalty", "tuned_on", "measured")

    @cached_property
    def threshold(self) -> Callable[[float], float]:
        """A function from a coverage to the greatest score of a set's labels; what it found lately it keeps."""
        return lru_cache(maxsize=64)(partial(prediction_sets.threshold_of, self.scores, self.count))

    @model_validator(mode="after")
    def _fits(self) -> Sets:
        expected = min(self.count, prediction_sets.MOST_SCORES)
        if len(self.scores) != expected:
            raise ValueError(f"of {self.count} images {expected} scores are kept; got {len(self.scores)}")
        if any(first > second for first, second in zip(self.scores, self.scores[1:], strict=False)):
            raise ValueError("scores must be sorted")
        if (self.method == "raps") != (self.k_reg is not None and self.penalty is not None):
            raise ValueError("raps, and no other method, has k_reg and penalty")
        return self
