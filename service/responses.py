"""The service's answers, as types: mypy checks the code that makes them, and the OpenAPI document shows them.

At run time they are plain dictionaries, so the types cost a request nothing; tests check answers against them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypeAliasType, TypedDict

from subspace_serve.bundle.manifest import Aggregate, Count, Name, Sha256
from subspace_serve.bundle.record import Unit
from subspace_serve.drift import Statistic

ModelName = TypeAliasType("ModelName", Name)
Temperature = Annotated[float, Field(gt=0, description="T: the answer's probabilities p are p^(1/T), normalised.")]
_Nats = Annotated[float, Field(ge=0, description="In nats.")]
Place = float | list[float]
_Metrics = Annotated[dict[str, float], Field(description="Measured at export.")]


class RankedLabel(TypedDict):
    """A label and how probable it is."""

    label: str
    index: Annotated[int, Field(ge=0)]
    probability: Unit


_Ranked = Annotated[
    list[RankedLabel], Field(min_length=1, description="The most probable labels, the most probable first.")
]


class MemberPrediction(TypedDict):
    """What one member of an ensemble answered, at the temperature 1."""

    model: ModelName | Place
    labels: _Ranked
    entropy: _Nats


class Prediction(TypedDict):
    """The answer for one image."""

    labels: _Ranked
    entropy: _Nats
    mutual_information: NotRequired[
        Annotated[
            float,
            Field(ge=0, description="Of ensembles: the mixture's entropy less the members' mean entropy, in nats."),
        ]
    ]
    disagreement: NotRequired[
        Annotated[
            Unit,
            Field(description="Of ensembles: the members' mean total-variation distance to their mixture."),
        ]
    ]
    set: NotRequired[
        Annotated[
            list[RankedLabel] | None,
            Field(
                description="With `coverage`: the labels that hold the right one with that probability, the most "
                "probable first, which is always among them. Null where `set_reason` says that there is none."
            ),
        ]
    ]
    abstained: NotRequired[
        Annotated[
            bool | None,
            Field(
                description="With `max_risk`: whether the answer is too unsure to be counted on. Null where "
                "`abstained_reason` says that nothing is promised."
            ),
        ]
    ]
    members: NotRequired[Annotated[list[MemberPrediction], Field(description="With `return_members`.")]]


SetReason = Annotated[str, Field(description="Why there are no sets, although `coverage` asked for them.")]

AbstainedReason = Annotated[
    str, Field(description="Why every answer abstains, or why nothing is promised, although `max_risk` asked for it.")
]


class Predictions(TypedDict):
    """The answer to /predict and /predict_image."""

    model: Annotated[
        str | None, Field(description="Who answered; null where members were chosen freely, or a place was asked.")
    ]
    alpha: Annotated[Place | None, Field(description="A single network's place in the subspace; null of ensembles.")]
    statistics: Annotated[
        ModelName | None, Field(description="The statistics set that all members have; null where they differ.")
    ]
    members: Annotated[
        list[ModelName | Place],
        Field(min_length=1, description="The points, and the places between them, that answered."),
    ]
    weights: Annotated[list[Unit], Field(min_length=1, description="The members' weights; their sum is 1.")]
    aggregate: Annotated[Aggregate | None, Field(description="Null for a single point.")]
    temperature: Temperature
    missing: NotRequired[
        Annotated[
            dict[str, str],
            Field(description="Why members did not answer; only where a quorum answered without them."),
        ]
    ]
    set_reason: NotRequired[SetReason]
    abstained_reason: NotRequired[AbstainedReason]
    predictions: Annotated[list[Prediction], Field(min_length=1)]


class Point(TypedDict):
    """A single network of the bundle."""

    name: ModelName
    type: Literal["point"]
    alpha: Annotated[Place | None, Field(description="Its place in the subspace.")]
    statistics: Annotated[
        ModelName | None, Field(description="The statistics set of its images; null where they have none.")
    ]
    coefficients: Annotated[list[float], Field(description="The endpoints' weights in this point.")]
    metrics: _Metrics
    temperature: Temperature
    precision: NotRequired[
        Annotated[Literal["fp16", "int8"], Field(description="Of the graph that answers, unless it is float32.")]
    ]
    float_point: NotRequired[
        Annotated[
            ModelName,
            Field(
                description="The float32 point that answers instead, as everything here says of it: this one did not "
                "pass its gate on this server's processor."
            ),
        ]
    ]


class Ensemble(TypedDict):
    """Points whose outputs are averaged."""

    name: ModelName
    type: Literal["ensemble"]
    members: Annotated[list[ModelName], Field(min_length=1)]
    weights: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1, description="They need not sum to 1.")]
    aggregate: Aggregate
    temperature: Temperature
    metrics: _Metrics


class Input(TypedDict):
    """The pixels that the models take."""

    name: str
    dtype: Literal["uint8", "float32"]
    layout: Literal["NHWC", "NCHW"]
    height: Count
    width: Count
    channels: Count


class Subspace(TypedDict):
    """The subspace that the bundle holds: any place of it can be asked as `alpha`."""

    geometry: str
    endpoints: Count
    alpha: Annotated[str, Field(description="What `alpha` may be.")]
    step: Annotated[float, Field(ge=0, description="To multiples of which a place is brought.")]
    statistics: Annotated[list[ModelName], Field(min_length=1, description="The statistics sets.")]


class Domain(TypedDict):
    """A place in the world for which the bundle was adapted."""

    name: ModelName
    statistics: ModelName
    alpha: Place
    temperature: Temperature


class BundleIdentity(TypedDict):
    """Which bundle answers."""

    sha256: Annotated[Sha256, Field(description="Of the bundle's manifest.")]


class Models(TypedDict):
    """The answer to GET /models."""

    default: ModelName
    bundle: BundleIdentity
    models: Annotated[list[Point | Ensemble], Field(min_length=1)]
    labels: Annotated[list[str], Field(min_length=1)]
    input: Input
    subspace: Annotated[Subspace | None, Field(description="Null where the bundle holds points only.")]
    domains: list[Domain]


class DriftStatistic(TypedDict):
    """What a statistic of the images says of drift."""

    name: Statistic
    log10_wealth: Annotated[float, Field(description="Now. It falls slowly while nothing changes.")]
    log10_highest: Annotated[float, Field(description="The greatest that it ever was; from log10 20 on, an alarm.")]


class DriftCalibration(TypedDict):
    """The images that a stream is compared with, besides its own earlier ones."""

    data: str
    images: Count


class DriftSince(TypedDict):
    """When there was an alarm."""

    image: Annotated[int, Field(ge=1, description="The image, counted from 1, after which there was an alarm.")]
    time: Annotated[str, Field(description="In UTC, to a second or two.", json_schema_extra={"format": "date-time"})]


class Drift(TypedDict):
    """The answer to GET /models/{model}/drift."""

    model: ModelName
    domain: Annotated[ModelName | None, Field(description="Whose own point the model is; null of others.")]
    bundle: BundleIdentity
    images: Annotated[int, Field(ge=0, description="Images watched, by all workers, since the stream began.")]
    calibration: Annotated[DriftCalibration | None, Field(description="Null where the bundle keeps no such images.")]
    statistics: Annotated[list[DriftStatistic], Field(min_length=2)]
    log10_wealth: Annotated[float, Field(description="The greatest of the statistics', now.")]
    p_value: Annotated[
        Unit, Field(description="A bound on how probable so much evidence is, ever, if nothing has changed.")
    ]
    alarm: Annotated[bool, Field(description="Whether `p_value` ever came to 0.05; stays until the stream is reset.")]
    since: DriftSince | None
    advice: Annotated[str, Field(description="What to do.")]


class Reloaded(TypedDict):
    """The answer to POST /admin/reload."""

    bundle: BundleIdentity
