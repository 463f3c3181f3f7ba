"""What a manifest records of how a model was calibrated, compared and made confident."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from subspace_serve.bundle.record import Count, Record, Unit


class Calibration(Record):
    """The data that BatchNorm's statistics come from.

    `count` and `batch_size` are None where they are unknown, as for running averages that came with imported weights.
    """

    data: str
    count: Count | None
    batch_size: Count | None
    seed: int | None


ReferenceName = Literal["torch", "training", "skeleton"]


class Parity(Record):
    """How far the graph's logits on ONNX Runtime were from the network's at export.

    `reference` is None when torch itself computed the network's. Otherwise the skeleton did: `training` when it had
    first reproduced the answers that torch left beside the run at training, `skeleton` when there were none to
    reproduce, as for a domain's point. A point in fp16 or int8 is compared with its float point and may differ by the
    largest logit, which only a broken graph exceeds: its gate says how good it is.
    """

    provider: str
    max_abs_diff: Annotated[float, Field(ge=0)]
    top1_flips: Annotated[int, Field(ge=0)]
    tolerance: Annotated[float, Field(gt=0)]
    reference: ReferenceName | None = None

    _where_used = ("reference",)


class Reliability(Record):
    """Negative log-likelihood in nats and expected calibration error in [0, 1]."""

    nll: Annotated[float, Field(ge=0)]
    ece: Unit


class TemperatureFit(Record):
    """How a temperature was fitted, and what it did to images that it was not fitted on.

    It was fitted on `count` images of `data`; `reported_on` others were measured at temperature 1 (`before`) and at the
    temperature (`after`); `seed` divided them. `at_bound` says that the images did not determine the temperature: it is
    1 when they called for ever more confident answers, and the highest allowed when for ever less confident ones.
    """

    data: str
    count: Count
    seed: int
    reported_on: Count
    before: Reliability
    after: Reliability
    at_bound: bool = False
