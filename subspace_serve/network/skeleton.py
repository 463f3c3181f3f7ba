"""An architecture's ONNX graph without weights: it becomes the network of whatever numbers are put in.

Every parameter and every BatchNorm statistic of the graph is an *external* initialiser in the file `parameters` or
`statistics`, which exists in memory only: a flat vector that ONNX Runtime is given when a session is built, before it
optimises anything. A session at a new place of a subspace is then built without torch and without tracing, and runs
as fast as a graph that was exported with its weights. The normalisation of pixels is in the file `preprocessing`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.errors import BundleError, CheckpointError
from subspace_serve.network.onnx_file import FLOAT, Model, Node, Tensor, metadata_field
from subspace_serve.suggestions import listed

FILE_NAME = "skeleton.onnx"
FORMAT = "subspace-serve-skeleton"
VERSION = 1
PARAMETERS, STATISTICS, PREPROCESSING = "parameters", "statistics", "preprocessing"
SCALE, SHIFT = "preprocessing.scale", "preprocessing.shift"
IMAGE, LOGITS = "image", "logits"


@dataclass(frozen=True)
class Slot:
    """Where one tensor is in its flat vector: `vector[start : start + size]`, in C order."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def where(self) -> slice:
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True)
class BatchNorm:
    """One BatchNorm layer of the graph, which may run several times in a pass.

    Attributes:
        name: the layer's, as in the network.
        mean, variance: where its statistics are in the vector of statistics.
        inputs: the values that it normalises, one per run.
        epsilon: what is added to its variance.
    """

    name: str
    mean: Slot
    variance: Slot
    inputs: tuple[str, ...]
    epsilon: float


class Skeleton:
    """A graph that gets its numbers when it is used.

    Args:
        data: the ONNX file's bytes.

    Raises:
        BundleError: the file is truncated or damaged.
        CheckpointError: it is an ONNX file, but not a skeleton, or one of another version, or it was altered.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._model = Model.parse(data)
        metadata = self._model.metadata
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"this ONNX file is no skeleton: its metadata name no {FORMAT} format; train again")
        if metadata.get("version") != str(VERSION):
            raise CheckpointError(
                f"the skeleton has version {metadata.get('version')} and this program reads version {VERSION}; install "
                "a newer subspace-serve"
            )
        if not data.endswith(_seal(data[: -len(_seal(b""))])):
            raise CheckpointError("the skeleton was altered after it was made: its SHA-256 is missing or differs")
        self.architecture: dict[str, Any] = json.loads(metadata["architecture"])
        self.unused: frozenset[str] = frozenset(json.loads(metadata["unused"]))
        """Parameters that exist in training but are not needed by the graph."""
        self.opset = int(metadata["opset"])
        self.exporter = metadata["exporter"]
        """What traced the network."""

    @classmethod
    def read(cls, run: Path) -> Skeleton:
        """Read the skeleton in a run's folder.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        file = run / FILE_NAME
        try:
            return cls(file.read_bytes())
        except FileNotFoundError:
            raise CheckpointError(
                f"{run} has no {FILE_NAME}, the graph of its networks; where torch is installed, a run of an earlier "
                f"version gets one by subspace-serve train --resume {run}"
            ) from None
        except (BundleError, CheckpointError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{file} is damaged or no skeleton ({error}); copy the run again, or where torch is installed have it "
                f"made again by subspace-serve train --resume {run}"
            ) from error

    @cached_property
    def parameters(self) -> dict[str, Slot]:
        """Where each parameter is in the vector of parameters."""
        return self._slots(PARAMETERS)

    @cached_property
    def statistics(self) -> dict[str, Slot]:
        """Where each mean and variance is in the vector of statistics."""
        return self._slots(STATISTICS)

    @cached_property
    def batchnorms(self) -> list[BatchNorm]:
        """The BatchNorm layers, in the graph's order."""
        layers: dict[str, BatchNorm] = {}
        for node in self._model.nodes:
            if not self.has_statistics(node):
                continue
            mean, variance = node.inputs[3:5]
            name = mean.rpartition(".")[0]
            inputs = (*layers[name].inputs, node.inputs[0]) if name in layers else (node.inputs[0],)
            epsilon = node.number("epsilon", 1e-5)
            layers[name] = BatchNorm(name, self.statistics[mean], self.statistics[variance], inputs, epsilon)
        return list(layers.values())

    def vector(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return named parameters as one vector, float32 (n,); those in `unused` are left out.

        Raises:
            CheckpointError: a parameter is missing or unknown, or has another shape or type.
        """
        wanted = self.parameters
        missing, unknown = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys() - self.unused
        if missing or unknown:
            found = f"missing {listed(sorted(missing), 3)}" if missing else f"unknown {listed(sorted(unknown), 3)}"
            raise CheckpointError(f"the weights are not those of the skeleton's network: {found}; train again")
        vector = np.empty(sum(slot.size for slot in wanted.values()), np.float32)
        for name, slot in wanted.items():
            tensor = tensors[name]
            if tensor.shape != slot.shape or tensor.dtype != np.float32:
                raise CheckpointError(
                    f"the weights are not those of the skeleton's network: {name} is {tensor.dtype} of shape "
                    f"{tensor.shape}, expected float32 of shape {slot.shape}; train again"
                )
            vector[slot.where] = tensor.reshape(-1)
        return vector

    def default_statistics(self) -> np.ndarray:
        """Return the statistics of a fresh network, means of 0 and variances of 1, float32 (k,)."""
        vector = np.zeros(sum(slot.size for slot in self.statistics.values()), np.float32)
        for layer in self.batchnorms:
            vector[layer.variance.where] = 1
        return vector

    def model(self) -> Model:
        """Return a parsed copy of the graph, to be changed."""
        return Model.parse(self.data)

    def has_statistics(self, node: Node) -> bool:
        """Return whether a node is one of a BatchNorm layer's runs."""
        return node.operator == "BatchNormalization" and node.inputs[3] in self.statistics

    def _slots(self, location: str) -> dict[str, Slot]:
        return {
            tensor.name: Slot(tensor.name, tensor.shape, tensor.offset // 4)
            for tensor in self._model.tensors
            if tensor.location == location
        }


def with_numbers(model: Model, vectors: Mapping[str, np.ndarray]) -> bytes:
    """Return a graph as one ordinary ONNX file that contains its numbers.

    Args:
        model: a skeleton, or a graph made from one; it is changed.
        vectors: `parameters`, `statistics` and `preprocessing`, float32.
    """
    model.tensors = [_filled(tensor, vectors) for tensor in model.tensors]
    model.metadata = {}
    return model.encoded()


def sealed(data: bytes) -> bytes:
    """Return a skeleton's file with its own SHA-256 appended, which reveals changes."""
    return data + _seal(data)


def _seal(data: bytes) -> bytes:
    """Return what is appended to a file: a metadata entry, always of the same length."""
    return metadata_field("sha256", hashlib.sha256(data).hexdigest())


def external(tensors: Mapping[str, tuple[int, ...]], location: str) -> list[Tensor]:
    """Return float32 tensors one after another in a file that exists in memory only."""
    found, offset = [], 0
    for name, shape in tensors.items():
        found.append(Tensor(name, FLOAT, shape, location=location, offset=offset))
        offset += 4 * int(np.prod(shape, dtype=np.int64))
    return found


def _filled(tensor: Tensor, vectors: Mapping[str, np.ndarray]) -> Tensor:
    if tensor.location is None:
        return tensor
    start = tensor.offset // 4
    numbers = vectors[tensor.location][start : start + int(np.prod(tensor.shape, dtype=np.int64))]
    return Tensor(tensor.name, tensor.type, tensor.shape, raw=numbers.astype("<f4").tobytes())
