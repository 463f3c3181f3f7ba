"""Answers of the Open Inference Protocol: output tensors as JSON or as binary data after it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic_core import to_json
from starlette.responses import Response
from typing_extensions import NotRequired, TypedDict

from service.documents import RequestError
from service.engine import Answer
from service.inference_protocol.documents import InferRequest, OutputName, OutputTensor
from service.inference_protocol.metadata import VERSION, Version
from service.responses import AbstainedReason, ModelName, SetReason, Temperature
from subspace_serve.bundle.manifest import Aggregate
from subspace_serve.bundle.predict import Prediction, named
from subspace_serve.bundle.selection import Selection

_USUAL: tuple[OutputName, ...] = ("probabilities", "entropy", "mutual_information", "disagreement")

_OUTPUTS: Mapping[OutputName, Callable[[Prediction], np.ndarray | None]] = {
    "probabilities": lambda prediction: prediction.probabilities,
    "logits": lambda prediction: prediction.logits,
    "entropy": lambda prediction: prediction.entropy,
    "mutual_information": lambda prediction: prediction.mutual_information,
    "disagreement": lambda prediction: prediction.disagreement,
    "member_probabilities": lambda prediction: (
        prediction.member_probabilities.swapaxes(0, 1) if prediction.selection.aggregate else None
    ),
}
"""Every output by its name; those that only ensembles have are None for a point."""


class BinaryData(TypedDict):
    """Where a tensor's data is, if not in the JSON document."""

    binary_data_size: Annotated[int, Field(ge=0)]


class InferOutput(TypedDict):
    """A tensor."""

    name: OutputName
    datatype: Literal["FP32", "BYTES"]
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    parameters: NotRequired[BinaryData]
    data: NotRequired[
        Annotated[
            list[float | str],
            Field(description="Flat, in row-major order; numbers of FP32, text of BYTES. Left out of binary data."),
        ]
    ]


class Answered(TypedDict):
    """Who answered."""

    members: Annotated[str, Field(description="The points and places that answered, a list as a JSON string.")]
    weights: Annotated[str, Field(description="Their weights, a list as a JSON string.")]
    temperature: Temperature
    aggregate: NotRequired[Aggregate]
    alpha: NotRequired[Annotated[str, Field(description="A single network's place, as a JSON string.")]]
    statistics: NotRequired[Annotated[str, Field(description="The statistics set that all members have.")]]
    missing: NotRequired[
        Annotated[str, Field(description="Members that did not answer: reasons by name, as a JSON string.")]
    ]
    sets: NotRequired[
        Annotated[
            str,
            Field(
                description="With `coverage`: each image's set, a list of lists of labels with `label`, `index` and "
                "`probability` as a JSON string; the string `null` where `set_reason` says that there are none."
            ),
        ]
    ]
    set_reason: NotRequired[SetReason]
    abstained: NotRequired[
        Annotated[
            str,
            Field(
                description="With `max_risk`: whether each image's answer is too unsure to be counted on, a list as a "
                "JSON string; the string `null` where `abstained_reason` says that nothing is promised."
            ),
        ]
    ]
    abstained_reason: NotRequired[AbstainedReason]


class InferResponse(TypedDict):
    """The answer to an inference request."""

    model_name: ModelName
    model_version: Version
    id: NotRequired[str]
    parameters: Answered
    outputs: Annotated[list[InferOutput], Field(min_length=1)]


def infer_response(request: InferRequest, answer: Answer, asked_model: str) -> Response:
    """Return the answer to an inference request. Raises `RequestError` for an output that only ensembles have."""
    labels = answer.labels
    model = answering_model(answer, asked_model)
    tensors: list[InferOutput] = []
    buffers = []
    for output, values in asked_outputs(request, answer, model):
        tensor, data = encoded(output, values, labels)
        as_binary = output.parameters.binary_data
        if request.parameters.binary_data_output if as_binary is None else as_binary:
            tensor["parameters"] = {"binary_data_size": len(data)}
            buffers.append(data)
        else:
            tensor["data"] = _listed(output, values, labels)
        tensors.append(tensor)
    document: InferResponse = {
        "model_name": model,
        "model_version": VERSION,
        **({} if request.id is None else {"id": request.id}),  # type: ignore[typeddict-item]
        "parameters": answered_by(answer),
        "outputs": tensors,
    }
    text = to_json(document)
    if not buffers:
        return Response(text, media_type="application/json")
    headers = {"Inference-Header-Content-Length": str(len(text))}
    return Response(b"".join([text, *buffers]), headers=headers, media_type="application/octet-stream")


def answering_model(answer: Answer, asked_model: str) -> str:
    """Return the name under which is answered: of freely chosen members, and of a place, the one that was asked."""
    return answer.prediction.selection.model or asked_model


def asked_outputs(request: InferRequest, answer: Answer, model: str) -> Iterator[tuple[OutputTensor, np.ndarray]]:
    """Yield each output that was asked for with its values, or the usual ones.

    Raises `RequestError` for an output that only ensembles have.
    """
    prediction = answer.prediction
    asked = request.outputs or [OutputTensor(name=name) for name in _USUAL if _OUTPUTS[name](prediction) is not None]
    for output in asked:
        values = _OUTPUTS[output.name](prediction)
        if values is None:
            raise RequestError(f"the output {output.name} is of ensembles, and {model} is a single point")
        yield output, values


def answered_by(answer: Answer) -> Answered:
    """Return who answered, and what was promised of the answer."""
    prediction, labels = answer.prediction, answer.labels
    selection = prediction.selection
    parameters = _described(selection).copy()
    if prediction.missing:
        parameters["missing"] = to_json(dict(prediction.missing)).decode()
    promised = answer.promises.of(selection, prediction.probabilities)
    if answer.promises.coverage is not None:
        parameters["sets"] = to_json(prediction.listed_sets(labels, promised)).decode()
    if answer.promises.max_risk is not None:
        abstained = promised.abstained
        parameters["abstained"] = to_json(None if abstained is None else abstained.tolist()).decode()
    parameters |= promised.reasons()  # type: ignore[typeddict-item]
    return parameters


@functools.lru_cache(maxsize=64)
def _described(selection: Selection) -> Answered:
    parameters: Answered = {
        "members": to_json(named(selection)).decode(),
        "weights": to_json(selection.weights).decode(),
        "temperature": selection.temperature,
    }
    if selection.aggregate is not None:
        parameters["aggregate"] = selection.aggregate
    if selection.alpha is not None:
        parameters["alpha"] = to_json(selection.alpha).decode()
    if selection.statistics is not None:
        parameters["statistics"] = selection.statistics
    return parameters


def encoded(output: OutputTensor, values: np.ndarray, labels: Sequence[str]) -> tuple[InferOutput, bytes]:
    """Return a tensor without its data, and the data as bytes."""
    tensor: InferOutput = {"name": output.name, "datatype": "FP32", "shape": list(values.shape)}
    if output.parameters.classification is None:
        return tensor, values.astype("<f4").tobytes()
    classes = _classes(output, values, labels)
    tensor |= {"datatype": "BYTES", "shape": [len(classes), len(classes[0])]}
    encoded = [text.encode() for row in classes for text in row]
    return tensor, b"".join(len(text).to_bytes(4, "little") + text for text in encoded)


def _listed(output: OutputTensor, values: np.ndarray, labels: Sequence[str]) -> list[Any]:
    """Return a tensor's data for JSON: one flat list in row-major order."""
    if output.parameters.classification is not None:
        return [text for row in _classes(output, values, labels) for text in row]
    numbers: list[float] = values.astype(np.float32).ravel().tolist()
    return numbers


def _classes(output: OutputTensor, values: np.ndarray, labels: Sequence[str]) -> list[list[str]]:
    """Return each image's highest classes as `value:index:label`, as Triton's classification extension has it."""
    order = np.argsort(-values, axis=1, kind="stable")[:, : output.parameters.classification]
    return [
        [f"{values[row, index]:f}:{index}:{labels[index]}" for index in indices] for row, indices in enumerate(order)
    ]
