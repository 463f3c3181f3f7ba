"""Requests of the Open Inference Protocol: a JSON document, which binary tensors may follow."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from service.documents import RequestError, load_json
from service.engine import Question
from service.images import check_count, numbers
from service.inference_protocol.documents import DATATYPES, InferRequest, InputTensor
from service.settings import Settings
from subspace_serve.bundle.manifest import Input, describe
from subspace_serve.bundle.predict import check_images
from subspace_serve.bundle.promises import Promises

_WIRE_TYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype("<u1"), "float32": np.dtype("<f4")}


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


def json_length(body: bytes, header: str | None) -> int:
    """Return how many bytes of a body are JSON, as the header Inference-Header-Content-Length says; without it, all.

    Raises `RequestError`.
    """
    if header is None:
        return len(body)
    if not _LENGTH.fullmatch(header) or int(header) > len(body):
        raise RequestError(
            f"Inference-Header-Content-Length is {header!r:.60}; expected the length of the JSON, at most {len(body)}"
        )
    return int(header)


def parse_infer(body: bytes, length: int) -> Infer:
    """Split a body into its JSON document of `length` bytes and the binary data after it. Raises `RequestError`."""
    # A client of binary tensors sends the same JSON again and again.
    parse = _document if length == len(body) or length > _REPEATED else _repeated_document
    return Infer(parse(body[:length]), body[length:], large=length > _LARGE)


def _document(text: bytes) -> InferRequest:
    try:
        return InferRequest.model_validate(load_json(text))
    except ValidationError as error:
        raise RequestError(f"the request is not valid: {describe(error)}") from None


_repeated_document = functools.lru_cache(maxsize=64)(_document)
