"""Inference requests and their answers, between the protocol's messages and what HTTP's JSON is parsed to."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from service.documents import MAX_ENTRIES, RequestError
from service.engine import Answer
from service.grpc.messages import REQUESTS, RESPONSES, parse_message
from service.inference_protocol.documents import InferParameters, InferRequest, InputParameters, OutputParameters
from service.inference_protocol.metadata import VERSION
from service.inference_protocol.request import Infer
from service.inference_protocol.response import answered_by, answering_model, asked_outputs, encoded
from subspace_serve.bundle.manifest import describe

_CONTENTS = {"UINT8": "uint_contents", "FP32": "fp32_contents"}
_OF_HTTP = ("binary_data", "binary_data_output", "binary_data_size")
_LARGE = 65_536  # bytes of a message whose numbers are not raw
_REPEATED = 2_048  # bytes of a message without its raw contents, at most, that are kept with what they are parsed to
_DIMENSIONS = 9  # one more than a request may have

_Request, _Response = REQUESTS["ModelInfer"], RESPONSES["ModelInfer"]


def parse_request(data: bytes) -> tuple[str, str, Infer]:
    """Return the model's name and version that a ModelInferRequest names, and the request. Raises `RequestError`."""
    message = parse_message(_Request, data)
    raw = message.raw_input_contents
    if len(raw) > 1:
        raise RequestError(f"got {len(raw)} raw_input_contents, expected one, of the one input that models have")
    binary = raw[0] if raw else None
    if binary is None:
        request = _request(message, None)
    else:
        message.ClearField("raw_input_contents")
        # A client of raw tensors sends the same message around them again and again.
        head = message.SerializeToString()
        request = _repeated(head, len(binary)) if len(head) <= _REPEATED else _request(message, len(binary))
    large = binary is None and len(data) > _LARGE
    return message.model_name, message.model_version or VERSION, Infer(request, binary or b"", large)


@functools.lru_cache(maxsize=64)
def _repeated(head: bytes, raw_bytes: int) -> InferRequest:
    return _request(parse_message(_Request, head), raw_bytes)


def _request(message: Any, raw_bytes: int | None) -> InferRequest:
    """Return the request that a message is without its raw contents, which have `raw_bytes` if there are any."""
    # A list that is too long is refused when it is validated, and so need not be read to its end.
    tensors = message.inputs[: MAX_ENTRIES + 1]
    inputs = [_input(tensor, raw_bytes) for tensor in tensors]
    document: dict[str, Any] = {"parameters": _parameters(message.parameters, InferParameters), "inputs": inputs}
    if message.id:
        document["id"] = message.id
    if message.outputs:
        document["outputs"] = [
            {"name": output.name, "parameters": _parameters(output.parameters, OutputParameters)}
            for output in message.outputs[: MAX_ENTRIES + 1]
        ]
    try:
        return InferRequest.model_validate(document)
    except ValidationError as error:
        raise RequestError(f"the request is not valid: {describe(error)}") from None


def response_to(request: InferRequest, answer: Answer, asked_model: str) -> bytes:
    """Return the ModelInferResponse. Raises `RequestError` for an output that only ensembles have."""
    model = answering_model(answer, asked_model)
    response = _Response(model_name=model, model_version=VERSION, id=request.id)
    for name, value in answered_by(answer).items():
        if isinstance(value, str):
            response.parameters[name].string_param = value
        else:
            response.parameters[name].double_param = value
    for output, values in asked_outputs(request, answer, model):
        tensor, data = encoded(output, values, answer.labels)
        response.outputs.add(**tensor)
        response.raw_output_contents.append(data)
    serialized: bytes = response.SerializeToString()
    return serialized


def _input(tensor: Any, raw_bytes: int | None) -> dict[str, Any]:
    document = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape[:_DIMENSIONS])}
    parameters = _parameters(tensor.parameters, InputParameters)
    found = [field.name for field, _ in tensor.contents.ListFields()]
    if raw_bytes is None:
        return document | {"parameters": parameters, "data": _contents(tensor, found)}
    if found or not raw_bytes:
        got = f"both raw_input_contents and {found[0]}" if found else "empty raw_input_contents"
        raise RequestError(f"{tensor.name!r:.60} has {got}; send its data once")
    return document | {"parameters": parameters | {"binary_data_size": raw_bytes}}


def _contents(tensor: Any, found: list[str]) -> list[Any]:
    """Return a tensor's numbers; none of a datatype that no model takes, which is refused when the model is known."""
    if (expected := _CONTENTS.get(tensor.datatype)) is None:
        return []
    if found != [expected]:
        got = ", ".join(found) or "no data"
        raise RequestError(f"{tensor.name!r:.60} has {got}, expected raw_input_contents or {expected}")
    return list(getattr(tensor.contents, expected))


def _parameters(parameters: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    if not parameters:
        return {}
    if len(parameters) > MAX_ENTRIES:
        raise RequestError(f"got {len(parameters)} parameters, the limit is {MAX_ENTRIES}")
    known = [name for name in kind.model_fields if name not in _OF_HTTP]
    values = {}
    for name, parameter in parameters.items():
        if name in _OF_HTTP:
            raise RequestError(f"the parameter {name} is HTTP's; over gRPC tensors are sent as raw contents")
        if name not in known:
            raise RequestError(f"unknown parameter: {name!r:.60} is not known; known are {', '.join(known) or 'none'}")
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise RequestError(f"the parameter {name!r:.60} has no value; give one, or leave it out")
        values[name] = getattr(parameter, choice)
    return values
