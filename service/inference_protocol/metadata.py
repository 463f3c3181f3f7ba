"""The Open Inference Protocol's metadata of the server and its models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from service.inference_protocol.documents import DATATYPES
from service.responses import ModelName
from subspace_serve import __version__
from subspace_serve.bundle.manifest import Count
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.selection import UnknownModelError

Version = Literal["1"]
VERSION: Version = "1"
"""Every model's version: a bundle is replaced as a whole."""

_TRITON_TYPES: dict[str, Literal["TYPE_UINT8", "TYPE_FP32"]] = {"UINT8": "TYPE_UINT8", "FP32": "TYPE_FP32"}


class ServerMetadata(TypedDict):
    """The answer to GET /v2."""

    name: str
    version: str
    extensions: list[str]


class Live(TypedDict):
    """The answer to GET /v2/health/live."""

    live: bool


class Ready(TypedDict):
    """The answer to GET /v2/health/ready."""

    ready: bool


class ModelReady(TypedDict):
    """Whether a model answers."""

    name: ModelName
    ready: bool


class TensorMetadata(TypedDict):
    """A tensor; -1 in its shape is a dimension that is free."""

    name: str
    datatype: Literal["UINT8", "FP32"]
    shape: list[Annotated[int, Field(ge=-1)]]


class ModelMetadata(TypedDict):
    """A model's tensors."""

    name: ModelName
    versions: list[Version]
    platform: str
    inputs: Annotated[list[TensorMetadata], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[TensorMetadata], Field(min_length=1)]


class TensorConfiguration(TypedDict):
    """A tensor without its batch dimension."""

    name: str
    data_type: Literal["TYPE_UINT8", "TYPE_FP32"]
    dims: list[int]


class ModelConfiguration(TypedDict):
    """A model as Triton's model configuration extension describes it."""

    name: ModelName
    platform: str
    backend: str
    max_batch_size: Count
    input: Annotated[list[TensorConfiguration], Field(min_length=1, max_length=1)]
    output: Annotated[list[TensorConfiguration], Field(min_length=1)]


class IndexEntry(TypedDict):
    """A model of the repository index."""

    name: ModelName
    version: Version
    state: Literal["READY"]
    reason: str


def server_metadata() -> ServerMetadata:
    """Return the document of GET /v2."""
    return {
        "name": "subspace-serve",
        "version": __version__,
        "extensions": ["binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters"],
    }


def model_metadata(predictor: Predictor, name: str) -> ModelMetadata:
    """Return the document of GET /v2/models/NAME, a name that `check_model` has passed."""
    input = predictor.bundle.manifest.input
    return {
        "name": name,
        "versions": [VERSION],
        "platform": "subspace_serve_ensemble" if name in predictor.ensembles else "onnxruntime_onnx",
        "inputs": [{"name": input.name, "datatype": DATATYPES[input.dtype], "shape": [-1, *input.shape]}],
        "outputs": _outputs(predictor, name),
    }


def model_configuration(predictor: Predictor, name: str, max_images: int) -> ModelConfiguration:
    """Return the document of GET /v2/models/NAME/config, as in Triton's model configuration extension."""
    metadata = model_metadata(predictor, name)
    return {
        "name": name,
        "platform": metadata["platform"],
        "backend": "onnxruntime",
        "max_batch_size": max_images,
        "input": [_configured(tensor) for tensor in metadata["inputs"]],
        "output": [_configured(tensor) for tensor in metadata["outputs"]],
    }


def repository_index(predictor: Predictor | None) -> list[IndexEntry]:
    """Return the document of POST /v2/repository/index; empty before a bundle is loaded."""
    if predictor is None:
        return []
    names = [*predictor.points, *predictor.ensembles]
    return [{"name": name, "version": VERSION, "state": "READY", "reason": ""} for name in names]


def check_model(predictor: Predictor, name: str, version: str = VERSION) -> None:
    """Raise `UnknownModelError` unless this version of the model exists."""
    predictor.select(name)
    if version != VERSION:
        raise UnknownModelError(f"{name} has no version {version!r:.60}; its only one is {VERSION}")


def _outputs(predictor: Predictor, name: str) -> list[TensorMetadata]:
    classes = len(predictor.bundle.labels)
    shapes: dict[str, list[int]] = {"probabilities": [-1, classes], "logits": [-1, classes], "entropy": [-1]}
    if name in predictor.ensembles:
        members = len(predictor.ensembles[name].members)
        shapes |= {"mutual_information": [-1], "disagreement": [-1], "member_probabilities": [-1, members, classes]}
    return [{"name": output, "datatype": "FP32", "shape": shape} for output, shape in shapes.items()]


def _configured(tensor: TensorMetadata) -> TensorConfiguration:
    return {"name": tensor["name"], "data_type": _TRITON_TYPES[tensor["datatype"]], "dims": tensor["shape"][1:]}
