"""Requests of the Open Inference Protocol: a JSON document, after which binary tensors may follow."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.engine import Question
from service.requests import RequestError, check_count, has_booleans, load_json, numbers
from service.settings import Settings
from subspace_serve.bundle.manifest import Input, describe
from subspace_serve.bundle.predict import check_images

DATATYPES = {"uint8": "UINT8", "float32": "FP32"}
_WIRE_TYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype("<u1"), "float32": np.dtype("<f4")}

_Parameters = dict[str, str | int | float | bool]
_NUMBERS = TypeAdapter(list[float], config=ConfigDict(strict=True, allow_inf_nan=False))
_NAMES = TypeAdapter(list[str], config=ConfigDict(strict=True))


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class InputTensor(_Model):
    """A tensor that is sent: `data` in the JSON, or `binary_data_size` bytes after it."""

    name: str
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=8)]
    datatype: str
    parameters: _Parameters = {}
    data: list[Any] | None = None


class OutputTensor(_Model):
    """A tensor that is asked for; its parameters are `binary_data` and `classification`."""

    name: str
    parameters: _Parameters = {}


class InferRequest(_Model):
    """The JSON document of an inference request."""

    id: str | None = None
    parameters: _Parameters = {}
    inputs: Annotated[list[InputTensor], Field(min_length=1)]
    outputs: list[OutputTensor] | None = None


class RepositoryIndexRequest(_Model):
    """The body of POST /v2/repository/index, whose models are ready, all of them."""

    ready: bool = True


@dataclass(frozen=True)
class Infer:
    """A parsed request with the bytes after its JSON document; `plain` says that the JSON holds no boolean."""

    document: InferRequest
    binary: bytes
    plain: bool

    def question(self, model: str, limits: Settings) -> Question:
        """Return what the engine is asked; `model` is the path's. Raises `RequestError`."""
        parameters = dict(self.document.parameters)
        parameters.pop("binary_data_output", None)
        members = _parsed(parameters, "members", _NAMES)
        weights = _parsed(parameters, "weights", _NUMBERS)
        alpha = parameters.pop("alpha", None)
        if isinstance(alpha, str):
            alpha = _from_json("alpha", alpha)
            alpha = _parsed({"alpha": alpha}, "alpha", _NUMBERS) if isinstance(alpha, list) else alpha
        if isinstance(alpha, bool | str | dict):
            raise RequestError(
                f"the parameter alpha is {alpha!r:.100}; give a number, or a list of them as a JSON string"
            )
        aggregate = parameters.pop("aggregate", None)
        if aggregate not in (None, "probabilities", "logits"):
            raise RequestError(f"the parameter aggregate is {aggregate!r:.100}; give probabilities or logits")
        timeout = parameters.pop("timeout", None)
        if timeout is not None and (isinstance(timeout, bool | str) or not timeout > 0):
            raise RequestError(f"the parameter timeout is {timeout!r:.100}; give a positive number of microseconds")
        if parameters:
            raise RequestError(
                f"the parameter {next(iter(parameters))!r:.100} is not known; known are members, weights, aggregate, "
                "alpha, timeout and binary_data_output"
            )
        return Question(
            decode=lambda input: self._images(input, limits),
            slow=self.document.inputs[0].data is not None and len(self.document.inputs[0].data) > _MANY,
            # A place is a model of its own, whatever model the path names.
            model=model if alpha is None else None,
            members=members,
            weights=weights,
            aggregate=aggregate,  # type: ignore[arg-type]
            alpha=alpha,
            timeout=None if timeout is None else float(timeout) / 1e6,
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
        size = tensor.parameters.get("binary_data_size")
        expected = int(np.prod(tensor.shape)) * _WIRE_TYPES[input.dtype].itemsize
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
        if self.binary:
            raise RequestError(f"{input.name} has data, and {len(self.binary)} bytes follow the JSON; send one of them")
        images = numbers(tensor.data, input.dtype) if self.plain else None
        if images is None:
            kind = "whole numbers from 0 to 255" if input.dtype == "uint8" else "numbers from 0 to 1"
            raise RequestError(f"the data of {input.name} must be {kind}, flat or in nested lists of equal lengths")
        # Flat, or nested as the shape says; another nesting is another layout.
        if images.shape != tuple(tensor.shape) and images.shape != (int(np.prod(tensor.shape)),):
            raise RequestError(f"the data of {input.name} has the shape {list(images.shape)}, expected {tensor.shape}")
        return images.reshape(tensor.shape)


_MANY = 65_536
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
    text = body[:length]
    try:
        document = InferRequest.model_validate(load_json(text))
    except ValidationError as error:
        raise RequestError(f"the request is not valid: {describe(error)}") from None
    return Infer(document, body[length:], plain=not _has_boolean_data(document, text))


def _has_boolean_data(document: InferRequest, text: bytes) -> bool:
    """Whether the data may hold booleans, which parameters may, rightly, so that they are looked for one by one."""
    if document.inputs[0].data is None or not has_booleans(text):
        return False
    data = document.inputs[0].data
    while data and isinstance(data[0], list):
        data = [value for part in data if isinstance(part, list) for value in part]
    return any(isinstance(value, bool) for value in data)


def _parsed(parameters: dict[str, Any], name: str, adapter: TypeAdapter[Any]) -> Any:
    """Take a list out of the parameters, where it is a JSON string."""
    if name not in parameters:
        return None
    value = parameters.pop(name)
    if isinstance(value, str):
        value = _from_json(name, value)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise RequestError(f"the parameter {name} must be a list as a JSON string: {describe(error)}") from None


def _from_json(name: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise RequestError(f"the parameter {name} is not JSON: {text!r:.100}") from None


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)
