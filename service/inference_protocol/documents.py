"""The JSON documents of the Open Inference Protocol's requests, as types that check them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from service.documents import MAX_ENTRIES, Document
from service.requests import COVERAGE, MAX_RISK, Members, Numbers, Weights
from service.schemas import Json, alone, without_null
from subspace_serve.bundle.manifest import Aggregate, describe
from subspace_serve.bundle.record import Share

DATATYPES: dict[str, Literal["UINT8", "FP32"]] = {"uint8": "UINT8", "float32": "FP32"}

OutputName = Literal["probabilities", "logits", "entropy", "mutual_information", "disagreement", "member_probabilities"]
_OUTPUTS: tuple[str, ...] = get_args(OutputName)
_CLASSIFIED = ("probabilities", "logits")


class _Model(Document):
    model_config = ConfigDict(strict=True)


class _Parameters(_Model):
    """Parameters, each of its type or left out, but never null."""

    model_config = ConfigDict(json_schema_extra=without_null)

    @model_validator(mode="before")
    @classmethod
    def _are_known(cls, value: Any) -> Any:
        for name in value if isinstance(value, dict) else ():
            if name not in cls.model_fields:
                known = ", ".join(cls.model_fields)
                raise ValueError(f"unknown parameter: {name!r:.60} is not known; known are {known}")
            if value[name] is None:
                raise ValueError(f"the parameter {name} is null; leave it out")
        return value


def _parsed(complaint: str) -> WrapValidator:
    """Return a validator that takes a parameter's value as it is or as a JSON string; errors say `complaint`."""

    def parse(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            try:
                value = json.loads(value, parse_constant=_refuse_constant)
            except (ValueError, RecursionError):
                raise ValueError(f"the parameter {info.field_name} is not JSON: {value!r:.100}") from None
        try:
            return handler(value)
        except ValidationError as error:
            raise ValueError(f"the parameter {info.field_name} must be {complaint}: {describe(error)}") from None

    return WrapValidator(parse)


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)


def _known_aggregate(value: Any) -> Any:
    if value not in get_args(Aggregate):
        raise ValueError(f"the parameter aggregate is {value!r:.100}; give probabilities or logits")
    return value


_TEXT = {"type": "string"}
_LIST = _parsed("a list as a JSON string")


def _infer_schema(schema: Json) -> None:
    without_null(schema)
    schema |= alone("alpha", ("members", "weights", "aggregate"), False)


class InferParameters(_Parameters):
    """Who shall answer, as the options of /predict say it; lists are JSON strings."""

    model_config = ConfigDict(json_schema_extra=_infer_schema)

    members: Annotated[Members, _LIST, WithJsonSchema(_TEXT)] | None = Field(
        default=None, description="A list of points' names and of places as a JSON string.", examples=['["a", 0.3]']
    )
    weights: Annotated[Weights, _LIST, WithJsonSchema(_TEXT)] | None = Field(
        default=None, description="A list of numbers as a JSON string.", examples=["[3, 1]"]
    )
    aggregate: Annotated[Aggregate, BeforeValidator(_known_aggregate)] | None = Field(default=None)
    alpha: (
        Annotated[
            float | Numbers,
            _parsed("a number, or a list of them as a JSON string"),
            WithJsonSchema({"type": ["number", "string"]}),
        ]
        | None
    ) = Field(
        default=None,
        description="A number, or a list of numbers as a JSON string. The network there answers, whatever model the "
        "address names.",
    )
    domain: str | None = Field(default=None, description="Whose BatchNorm statistics the networks have.")
    coverage: Annotated[Share, _parsed("a number between 0 and 1")] | None = Field(
        default=None, description=COVERAGE + " The sets are the parameter `sets` of the answer."
    )
    max_risk: Annotated[Share, _parsed("a number between 0 and 1")] | None = Field(
        default=None, description=MAX_RISK + " It is the parameter `abstained` of the answer."
    )
    timeout: Annotated[float, Field(gt=0), _parsed("a positive number of microseconds")] | None = Field(
        default=None, description="Microseconds; the server's deadline holds too."
    )
    binary_data_output: bool | None = Field(
        default=None, description="Whether outputs come as binary data unless they say."
    )


class InputParameters(_Parameters):
    """Where a tensor's data is."""

    binary_data_size: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Instead of `data`: how many bytes of the tensor follow the JSON document."
    )


class OutputParameters(_Parameters):
    """How an output is sent."""

    binary_data: bool | None = Field(
        default=None, description="Whether the tensor comes as binary data after the JSON."
    )
    classification: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="For probabilities and logits: as many greatest classes, as BYTES of `value:index:label`.",
    )


class InputTensor(_Model):
    """A tensor that is sent: `data` in the JSON, or `binary_data_size` bytes after it."""

    name: str = Field(description="`image`, or what `input.name` of GET /models says.")
    # Shapes and types are checked once the model is known.
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=8)] = Field(
        json_schema_extra={"minItems": 4, "maxItems": 4, "items": {"type": "integer", "minimum": 1}}
    )
    datatype: str = Field(
        description="UINT8 (NHWC, 0 to 255) or FP32 (NCHW, 0 to 1), as the model's metadata says.",
        json_schema_extra={"enum": list(DATATYPES.values())},
    )
    parameters: InputParameters = Field(
        default=InputParameters(), description="With `binary_data_size`: the data follows the JSON document."
    )
    data: list[Any] | None = Field(
        default=None, description="The numbers, flat in row-major order or nested as the shape says."
    )


def _known_output(name: Any) -> Any:
    if name not in _OUTPUTS:
        raise ValueError(f"there is no output {name!r:.60}; there are {', '.join(_OUTPUTS)}")
    return name


class OutputTensor(_Model):
    """A tensor that is asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"name": {"enum": list(_CLASSIFIED)}}},
            "else": {"properties": {"parameters": {"properties": {"classification": False}}}},
        }
    )

    name: Annotated[OutputName, BeforeValidator(_known_output)]
    parameters: OutputParameters = OutputParameters()

    @model_validator(mode="after")
    def _fits(self) -> OutputTensor:
        if self.parameters.classification is not None and self.name not in _CLASSIFIED:
            raise ValueError(f"classification is a number of classes, for {' or '.join(_CLASSIFIED)}, not {self.name}")
        return self


class InferRequest(_Model):
    """The JSON document of an inference request."""

    id: str | None = Field(default=None, description="Comes back in the answer.")
    # KServe's own client sends it; the path decides, as in KServe's server.
    model_name: str | None = Field(default=None, description="Of no effect: the path names the model.")
    parameters: InferParameters = InferParameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=MAX_ENTRIES)] = Field(
        json_schema_extra={"maxItems": 1}
    )
    outputs: Annotated[list[OutputTensor], Field(max_length=MAX_ENTRIES)] | None = Field(
        default=None,
        description="Left out: probabilities and entropy, of ensembles mutual_information and disagreement too.",
    )

    @model_validator(mode="after")
    def _asks_once(self) -> InferRequest:
        names = [output.name for output in self.outputs or ()]
        if len(set(names)) != len(names):
            raise ValueError(f"an output is asked for twice: {', '.join(names):.200}")
        return self


InferBytes = Annotated[
    str,
    Field(
        description="The JSON document of an InferRequest without `data`, its length in the header "
        "Inference-Header-Content-Length, and after it the tensor's bytes: row-major, little-endian.",
        json_schema_extra={"format": "binary"},
    ),
]
"""An inference request with binary data, for the OpenAPI document."""


class RepositoryIndexRequest(_Model):
    """Which models to list: they are ready, all of them."""

    ready: bool = True
