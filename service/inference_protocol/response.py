"""Answers of the Open Inference Protocol: output tensors as JSON or as binary data after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic_core import to_json
from starlette.responses import Response

from service.engine import Answer
from service.inference_protocol.request import InferRequest, OutputTensor
from service.requests import RequestError
from subspace_serve.bundle.predict import Prediction

_USUAL = ("probabilities", "entropy", "mutual_information", "disagreement")
CLASSIFIED = ("probabilities", "logits")

OUTPUTS: Mapping[str, Callable[[Prediction], np.ndarray | None]] = {
    "probabilities": lambda prediction: prediction.probabilities,
    "logits": lambda prediction: prediction.logits,
    "entropy": lambda prediction: prediction.entropy,
    "mutual_information": lambda prediction: prediction.mutual_information,
    "disagreement": lambda prediction: prediction.disagreement,
    "member_probabilities": lambda prediction: (
        prediction.member_probabilities.swapaxes(0, 1) if prediction.selection.aggregate else None
    ),
}
"""Every output by its name; those that are of ensembles only are None for a point."""


def check_outputs(request: InferRequest) -> None:
    """Refuse, before anything runs, outputs that no model has. Raises `RequestError`."""
    names = [output.name for output in request.outputs or ()]
    if unknown := [name for name in names if name not in OUTPUTS]:
        raise RequestError(f"there is no output {unknown[0]!r:.60}; there are {', '.join(OUTPUTS)}")
    if len(set(names)) != len(names):
        raise RequestError(f"an output is asked for twice: {', '.join(names)}")
    for output in request.outputs or ():
        for name, value in output.parameters.items():
            if name == "binary_data" and not isinstance(value, bool):
                raise RequestError(f"binary_data of {output.name} is {value!r:.60}; expected true or false")
            if name == "classification":
                if isinstance(value, bool) or not isinstance(value, int) or value < 1 or output.name not in CLASSIFIED:
                    raise RequestError(
                        f"classification of {output.name} is {value!r:.60}; it is a number of classes, for "
                        + " or ".join(CLASSIFIED)
                    )
            elif name != "binary_data":
                raise RequestError(f"the output {output.name} has the unknown parameter {name!r:.60}")


def infer_response(request: InferRequest, answer: Answer, asked_model: str) -> Response:
    """Return the answer to an inference request. Raises `RequestError` for an output that only ensembles have."""
    prediction, labels = answer.prediction, answer.labels
    # Members that were chosen freely answer under the name that was asked.
    model = prediction.selection.model or asked_model
    binary_by_default = request.parameters.get("binary_data_output") is True
    asked = request.outputs or [OutputTensor(name=name) for name in _USUAL if OUTPUTS[name](prediction) is not None]
    tensors, buffers = [], []
    for output in asked:
        values = OUTPUTS[output.name](prediction)
        if values is None:
            raise RequestError(f"the output {output.name} is of ensembles, and {model} is a single point")
        tensor, data = _encoded(output, values, labels)
        if output.parameters.get("binary_data", binary_by_default):
            tensor["parameters"] = {"binary_data_size": len(data)}
            buffers.append(data)
        else:
            tensor["data"] = _listed(output, values, labels)
        tensors.append(tensor)
    selection = prediction.selection
    parameters: dict[str, Any] = {
        "members": to_json(selection.members).decode(),
        "weights": to_json(selection.weights).decode(),
        "temperature": selection.temperature,
    }
    if selection.aggregate is not None:
        parameters["aggregate"] = selection.aggregate
    if prediction.missing:
        parameters["missing"] = to_json(dict(prediction.missing)).decode()
    document: dict[str, Any] = {"model_name": model, "model_version": "1"}
    if request.id is not None:
        document["id"] = request.id
    text = to_json(document | {"parameters": parameters, "outputs": tensors})
    if not buffers:
        return Response(text, media_type="application/json")
    headers = {"Inference-Header-Content-Length": str(len(text))}
    return Response(b"".join([text, *buffers]), headers=headers, media_type="application/octet-stream")


def _encoded(output: OutputTensor, values: np.ndarray, labels: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    """Return a tensor without its data, and that as bytes."""
    tensor: dict[str, Any] = {"name": output.name, "datatype": "FP32", "shape": list(values.shape)}
    if "classification" not in output.parameters:
        return tensor, values.astype("<f4").tobytes()
    classes = _classes(output, values, labels)
    tensor |= {"datatype": "BYTES", "shape": [len(classes), len(classes[0])]}
    encoded = [text.encode() for row in classes for text in row]
    return tensor, b"".join(len(text).to_bytes(4, "little") + text for text in encoded)


def _listed(output: OutputTensor, values: np.ndarray, labels: Sequence[str]) -> list[Any]:
    """Return a tensor's data for JSON: one flat list in row-major order."""
    if "classification" in output.parameters:
        return [text for row in _classes(output, values, labels) for text in row]
    numbers: list[float] = values.astype(np.float32).ravel().tolist()
    return numbers


def _classes(output: OutputTensor, values: np.ndarray, labels: Sequence[str]) -> list[list[str]]:
    """Return each image's greatest classes as `value:index:label`, which is Triton's classification extension."""
    count = int(output.parameters["classification"])
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return [
        [f"{values[row, index]:f}:{index}:{labels[index]}" for index in indices] for row, indices in enumerate(order)
    ]
