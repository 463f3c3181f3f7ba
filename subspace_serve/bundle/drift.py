"""What a bundle keeps of labelled images, so that later images which are answered otherwise raise an alarm."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from subspace_serve.bundle.record import Count, Record
from subspace_serve.drift import BINS, OF_POINTS, STATISTICS, Statistic, bins_of, counts_of

_Counts = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=BINS, max_length=BINS)]


class DriftReference(Record):
    """How many of `count` images of `data` fall into each bin of a statistic of their answers.

    The images are those that calibrate prediction sets; the grids are those of `subspace_serve.drift.bins_of`.
    """

    data: str
    count: Count
    bins: dict[Statistic, _Counts]

    @classmethod
    def of(cls, values: np.ndarray, data: str) -> DriftReference:
        """Return the record of images with these statistics (S, N), from `subspace_serve.drift.values_of`."""
        counts = counts_of(bins_of(values))
        names = STATISTICS if len(counts) == len(STATISTICS) else OF_POINTS
        return cls(
            data=data,
            count=values.shape[1],
            bins={name: tuple(row.tolist()) for name, row in zip(names, counts, strict=True)},
        )

    @model_validator(mode="after")
    def _fits(self) -> DriftReference:
        for name, counts in self.bins.items():
            if sum(counts) != self.count:
                raise ValueError(f"the bins of {name} hold {sum(counts)} images, not the {self.count} that there are")
        return self
