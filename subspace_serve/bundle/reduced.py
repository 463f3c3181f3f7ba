"""What a bundle records of points in fp16 or int8, of ensembles fused into one file, and of the graph with alpha."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from subspace_serve.bundle.record import Count, Record, Unit

Precision = Literal["float32", "fp16", "int8"]


class Quality(Record):
    """How good a graph's answers are on labelled images, without a temperature."""

    accuracy: Unit
    ece: Unit
    nll: Annotated[float, Field(ge=0)]


class Gate(Record):
    """A point in fewer bits against its float point, on `images` labelled images of `data`, drawn with `seed`.

    `flips` is the share of images whose top answer differs; the accuracy may fall by `max_drop` points (hundredths).
    The first `repeated` of the images lie in the bundle, so that the gate is repeated on the processor that serves;
    `repeated_drop` is by how many points the accuracy fell on them at export.
    """

    data: str
    images: Count
    seed: int
    float32: Quality
    reduced: Quality
    flips: Unit
    max_drop: Annotated[float, Field(ge=0)]
    repeated: Count
    repeated_drop: float

    @property
    def allowed(self) -> float:
        """By how many points accuracy may fall on the repeated images: on so few, chance alone may take more."""
        return max(self.max_drop, self.repeated_drop)


class Reduction(Record):
    """How a point was made from its float point `of`, and the gate that it passed.

    Of int8, `scheme` says how it was quantised and `calibrated_on` how many of the point's calibration images gave the
    ranges of activations. `left_in_float` counts, by operator, the nodes that still compute in float32;
    `instructions` are those of the processor on which the gate was passed.
    """

    of: str
    scheme: str | None = None
    calibrated_on: Count | None = None
    left_in_float: dict[str, Count]
    instructions: tuple[str, ...]
    gate: Gate


class GraphParity(Record):
    """How far a graph's answers on the golden images were from the service's own, and how far they may be.

    Both are relative to the largest number of an output, or 1 if that is greater.
    """

    max_relative_difference: Annotated[float, Field(ge=0)]
    tolerance: Annotated[float, Field(gt=0)]
