"""Requests of the Open Inference Protocol: a JSON document, after which binary tensors may follow."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from service.engine import Question
from service.requests import (
    MAX_ENTRIES,
    Document,
    Names,
    Numbers,
    RequestError,
    check_count,
    few_fields,
    load_json,
    numbers,
)
from service.settings import Settings
from subspace_serve.bundle.manifest import Input, describe
from subspace_serve.bundle.predict import check_images

DATATYPES = {"uint8": "UINT8", "float32": "FP32"}
_WIRE_TYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype("<u1"), "float32": np.dtype("<f4")}

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_Parameters = Annotated[dict[str, str | int | float | bool], BeforeValidator(few_fields)]
_NUMBERS: TypeAdapter[Any] = TypeAdapter(Numbers, config=_STRICT)
_NAMES: TypeAdapter[Any] = TypeAdapter(Names, config=_STRICT)
_PLACE: TypeAdapter[Any] = TypeAdapter(float | Numbers, config=_STRICT)
_MICROSECONDS: TypeAdapter[Any] = TypeAdapter(Annotated[float, Field(gt=0)], config=_STRICT)


class _Model(Document):
    model_config = ConfigDict(strict=True)


class InputTensor(_Model):
    """A tensor that is sent: `data` in the JSON, or `binary_data_size` bytes after it."""

    name: str
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=8)]
    datatype: str
    parameters: _Parameters = Field(default={})
    data: list[Any] | None = None


class OutputTensor(_Model):
    """A tensor that is asked for; its parameters are `binary_data` and `classification`."""

    name: str
    parameters: _Parameters = Field(default={})


class InferRequest(_Model):
    """The JSON document of an inference request."""

    id: str | None = None
    # KServe's own client sends it; as in KServe's server, the path decides.
    model_name: str | None = None
    parameters: _Parameters = Field(default={})
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=MAX_ENTRIES)]
    outputs: Annotated[list[OutputTensor], Field(max_length=MAX_ENTRIES)] | None = None


class RepositoryIndexRequest(_Model):
    """The body of POST /v2/repository/index, whose models are ready, all of them."""

    ready: bool = True


@dataclass(frozen=True)
class Infer:
    """A parsed request with the bytes after its JSON document; `large` says that the JSON takes long to decode."""

    document: InferRequest
    binary: bytes
    large: bool

    def question(self, model: str, limits: Settings) -> Question:
        """Return what the engine is asked; `model` is the path's. Raises `RequestError`."""
        parameters = dict(self.document.parameters)
        if not isinstance(as_binary := parameters.pop("binary_data_output", False), bool):
            raise RequestError(f"the parameter binary_data_output is {as_binary!r:.100}; give true or false")
        members = _parsed(parameters, "members", _NAMES, "a list as a JSON string")
        weights = _parsed(parameters, "weights", _NUMBERS, "a list as a JSON string")
        alpha = _parsed(parameters, "alpha", _PLACE, "a number, or a list of them as a JSON string")
        aggregate = parameters.pop("aggregate", None)
        if aggregate not in (None, "probabilities", "logits"):
            raise RequestError(f"the parameter aggregate is {aggregate!r:.100}; give probabilities or logits")
        timeout = _parsed(parameters, "timeout", _MICROSECONDS, "a positive number of microseconds")
        if parameters:
            raise RequestError(
                f"the parameter {next(iter(parameters))!r:.100} is not known; known are members, weights, aggregate, "
                "alpha, timeout and binary_data_output"
            )
        return Question(
            decode=lambda input, deadline: self._images(input, limits),
            slow=self.large,
            # A place is a model of its own, whatever model the path names.
            model=model if alpha is None else None,
            members=members,
            weights=weights,
            aggregate=aggregate,  # type: ignore[arg-type]
            alpha=alpha,
            timeout=None if timeout is None else timeout / 1e6,
        )

    def _images(self, input: Input, limits: Settings) -> np.ndarray:
        if len(self.document.inputs) > 1 or self.document.inputs[0].name != input.name:
            names = [tensor.name for tensor in self.document.inputs]
            raise RequestError(f"got the inputs {names!r:.120}, expected one, {input.name}")
        tensor = self.document.inputs[0]
        if unknown := tensor.parameters.keys() - {"binary_data_size"}:
            raise RequestError(f"{input.name} has the unknown parameter {min(unknown)!r:.60}")
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
        size = tensor.parameters.get("binary_data_size")
        expected = math.prod(tensor.shape) * _WIRE_TYPES[input.dtype].itemsize
        if size is None:
            raise RequestError(f"{input.name} has neither data nor the parameter binary_data_size")
        if size != expected or isinstance(size, bool) or len(self.binary) != expected:
            raise RequestError(
                f"{input.name} of shape {tensor.shape} is {expected} bytes; binary_data_size is {size!r:.60} "
                f"and {len(self.binary)} bytes follow the JSON"
            )
        images = np.frombuffer(self.binary, _WIRE_TYPES[input.dtype]).reshape(tensor.shape)
        if input.dtype == "float32" and not (images.min() >= 0 and images.max() <= 1):
            raise RequestError(f"{input.name} must hold numbers from 0 to 1")
        return images

    def _json_tensor(self, tensor: InputTensor, input: Input) -> np.ndarray:
        if self.binary or tensor.parameters:
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
    try:
        document = InferRequest.model_validate(load_json(body[:length]))
    except ValidationError as error:
        raise RequestError(f"the request is not valid: {describe(error)}") from None
    return Infer(document, body[length:], large=length > _LARGE)


def _parsed(parameters: dict[str, Any], name: str, adapter: TypeAdapter[Any], expected: str) -> Any:
    """Take a value out of the parameters; a list is a JSON string there."""
    if name not in parameters:
        return None
    value = parameters.pop(name)
    if isinstance(value, str):
        value = _from_json(name, value)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise RequestError(f"the parameter {name} must be {expected}: {describe(error)}") from None


def _from_json(name: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise RequestError(f"the parameter {name} is not JSON: {text!r:.100}") from None


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)
