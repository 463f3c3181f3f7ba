"""Requests of the Open Inference Protocol: a JSON document, which binary tensors may follow."""

from __future__ import annotations

import functools
import json
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
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

from service.documents import MAX_ENTRIES, Document, RequestError, load_json
from service.engine import Question
from service.images import check_count, numbers
from service.requests import COVERAGE, MAX_RISK, Members, Numbers, Weights
from service.schemas import Json, alone, without_null
from service.settings import Settings
from subspace_serve.bundle.manifest import Aggregate, Input, describe
from subspace_serve.bundle.predict import check_images
from subspace_serve.bundle.promises import Promises
from subspace_serve.bundle.record import Share

DATATYPES: dict[str, Literal["UINT8", "FP32"]] = {"uint8": "UINT8", "float32": "FP32"}
_WIRE_TYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype("<u1"), "float32": np.dtype("<f4")}

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


@dataclass(frozen=True)
class Infer:
    """A parsed request, and the bytes after its JSON document; `large` says that its JSON takes long to decode."""

    document: InferRequest
    binary: bytes
    large: bool

    def question(self, model: str, limits: Settings) -> Question:
        """Return the question for the engine; `model` is from the path."""
        parameters = self.document.parameters
        return Question(
            decode=lambda input, deadline: self._images(input, limits),
            slow=self.large,
            # A place answers by itself, whatever model the path names.
            model=model if parameters.alpha is None else None,
            members=parameters.members,
            weights=parameters.weights,
            aggregate=parameters.aggregate,
            alpha=parameters.alpha,
            domain=parameters.domain,
            promises=Promises(parameters.coverage, parameters.max_risk),
            timeout=None if parameters.timeout is None else parameters.timeout / 1e6,
        )

    def _images(self, input: Input, limits: Settings) -> np.ndarray:
        if len(self.document.inputs) > 1 or self.document.inputs[0].name != input.name:
            names = [tensor.name for tensor in self.document.inputs]
            raise RequestError(f"got the inputs {names!r:.120}, expected one, {input.name}")
        tensor = self.document.inputs[0]
        datatype = DATATYPES[input.dtype]
        if tensor.datatype != datatype:
            raise RequestError(f"{input.name} has the datatype {tensor.datatype!r:.60}, expected {datatype}")
        if len(tensor.shape) != 4 or tuple(tensor.shape[1:]) != input.shape or tensor.shape[0] < 1:
            raise RequestError(
                f"{input.name} has the shape {tensor.shape}, expected [N, {', '.join(map(str, input.shape))}] "
                f"({input.layout})"
            )
        check_count(tensor.shape[0], limits)
        images = self._binary_tensor(tensor, input) if tensor.data is None else self._json_tensor(tensor, input)
        check_images(images, input)
        return images

    def _binary_tensor(self, tensor: InputTensor, input: Input) -> np.ndarray:
        size = tensor.parameters.binary_data_size
        expected = math.prod(tensor.shape) * _WIRE_TYPES[input.dtype].itemsize
        if size is None:
            raise RequestError(f"{input.name} has neither data nor the parameter binary_data_size")
        if size != expected or len(self.binary) != expected:
            found = f"binary_data_size is {size} and {len(self.binary)} bytes follow the JSON"
            if size == len(self.binary):
                found = f"got {size}"
            raise RequestError(f"{input.name} of shape {tensor.shape} is {expected} bytes; {found}")
        images = np.frombuffer(self.binary, _WIRE_TYPES[input.dtype]).reshape(tensor.shape)
        if input.dtype == "float32" and not (images.min() >= 0 and images.max() <= 1):
            raise RequestError(f"{input.name} must hold numbers from 0 to 1")
        return images

    def _json_tensor(self, tensor: InputTensor, input: Input) -> np.ndarray:
        if self.binary or tensor.parameters.binary_data_size is not None:
            raise RequestError(
                f"{input.name} has data, and binary_data_size or {len(self.binary)} bytes after the JSON; send one"
            )
        images = numbers(tensor.data or [], input.dtype)
        if images is None:
            kind = "whole numbers from 0 to 255" if input.dtype == "uint8" else "numbers from 0 to 1"
            raise RequestError(f"the data of {input.name} must be {kind}, flat or in nested lists of equal lengths")
        # Flat, or nested as the shape says; another nesting is another layout.
        if images.shape != tuple(tensor.shape) and images.shape != (math.prod(tensor.shape),):
            raise RequestError(f"the data of {input.name} has the shape {list(images.shape)}, expected {tensor.shape}")
        return images.reshape(tensor.shape)


_LARGE = 65_536  # bytes of JSON
_REPEATED = 2_048  # bytes of JSON, at most, that are kept with what they were parsed to
_LENGTH = re.compile(r"[0-9]{1,18}")


def parse_infer(body: bytes, header_length: str | None) -> Infer:
    """Split a body into its JSON document and the binary data after it. Raises `RequestError`.

    `header_length` is the header Inference-Header-Content-Length: how many bytes are JSON; None when all are.
    """
    length = len(body)
    if header_length is not None:
        if not _LENGTH.fullmatch(header_length) or int(header_length) > len(body):
            raise RequestError(
                f"Inference-Header-Content-Length is {header_length!r:.60}; expected the length of the JSON, "
                f"at most {len(body)}"
            )
        length = int(header_length)
    # A client of binary tensors sends the same JSON again and again.
    parse = _document if length == len(body) or length > _REPEATED else _repeated_document
    return Infer(parse(body[:length]), body[length:], large=length > _LARGE)


def _document(text: bytes) -> InferRequest:
    try:
        return InferRequest.model_validate(load_json(text))
    except ValidationError as error:
        raise RequestError(f"the request is not valid: {describe(error)}") from None


_repeated_document = functools.lru_cache(maxsize=64)(_document)
