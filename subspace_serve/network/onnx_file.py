"""ONNX files, read and written without the package onnx, as far as the networks of a subspace need.

An ONNX file is one protobuf message. Fields that are not changed here are kept as they are. Field numbers and enum
values are those of onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from subspace_serve.errors import BundleError
from subspace_serve.network.protobuf import (
    VARINT,
    Fields,
    as_bytes,
    encoded_fields,
    fields,
    fixed32_field,
    message_field,
    number_field,
    text_field,
    varints,
)

_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
FLOAT, UINT8, INT64 = 1, 2, 7
"""TensorProto.DataType."""


@dataclass
class Node:
    """A node of a graph: the names of its inputs and outputs, and its attributes, by name, as encoded messages."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, bytes] = field(default_factory=dict)
    others: Fields = field(default_factory=list)

    def number(self, attribute: str, default: float) -> float:
        """Return a floating-point attribute, or the operator's default where it is absent."""
        found = [value for number, _, value in fields(self.attributes.get(attribute, b"")) if number == 2]
        return struct.unpack("<f", as_bytes(found[0]))[0] if found else default

    def encoded(self) -> bytes:
        parts = [text_field(1, name) for name in self.inputs] + [text_field(2, name) for name in self.outputs]
        parts += [
            text_field(4, self.operator),
            *(message_field(5, attribute) for attribute in self.attributes.values()),
        ]
        return b"".join([*parts, encoded_fields(self.others)])


@dataclass(frozen=True)
class Tensor:
    """An initialiser: its name, element type, shape, and its bytes, either here or at a place in another file."""

    name: str
    type: int
    shape: tuple[int, ...]
    raw: bytes | None = None
    location: str | None = None
    offset: int = 0

    def encoded(self) -> bytes:
        parts = [number_field(1, size) for size in self.shape] + [number_field(2, self.type), text_field(8, self.name)]
        if self.location is None:
            return b"".join([*parts, message_field(9, self.raw or b"")])
        length = 4 * int(np.prod(self.shape, dtype=np.int64))
        entries = {"location": self.location, "offset": str(self.offset), "length": str(length)}
        parts += [message_field(13, text_field(1, key) + text_field(2, value)) for key, value in entries.items()]
        return b"".join([*parts, number_field(14, 1)])


@dataclass
class Model:
    """An ONNX model, parsed as far as it is changed here."""

    nodes: list[Node]
    tensors: list[Tensor]
    inputs: list[bytes]
    outputs: list[bytes]
    metadata: dict[str, str]
    graph_others: Fields
    others: Fields

    @classmethod
    def parse(cls, data: bytes) -> Model:
        """Parse a file.

        Raises:
            BundleError: it is truncated, not a protobuf message, or an initialiser is stored in another form than raw
                bytes.
        """
        try:
            model = list(fields(data))
            graph = [item for number, _, value in model if number == _MODEL_GRAPH for item in fields(as_bytes(value))]
            return cls(
                nodes=[_node(as_bytes(value)) for number, _, value in graph if number == _GRAPH_NODE],
                tensors=[_tensor(as_bytes(value)) for number, _, value in graph if number == _GRAPH_INITIALIZER],
                inputs=[as_bytes(value) for number, _, value in graph if number == _GRAPH_INPUT],
                outputs=[as_bytes(value) for number, _, value in graph if number == _GRAPH_OUTPUT],
                metadata=dict(_entry(as_bytes(value)) for number, _, value in model if number == _MODEL_METADATA),
                graph_others=[
                    item
                    for item in graph
                    if item[0] not in (_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT)
                ],
                others=[item for item in model if item[0] not in (_MODEL_GRAPH, _MODEL_METADATA)],
            )
        except (ValueError, IndexError, struct.error, TypeError, StopIteration) as error:
            raise BundleError(f"an ONNX file is truncated or damaged ({error}); write it again") from error

    def encoded(self) -> bytes:
        """Return the file's bytes."""
        graph = [
            *(message_field(_GRAPH_NODE, node.encoded()) for node in self.nodes),
            *(message_field(_GRAPH_INITIALIZER, tensor.encoded()) for tensor in self.tensors),
            *(message_field(_GRAPH_INPUT, value) for value in self.inputs),
            *(message_field(_GRAPH_OUTPUT, value) for value in self.outputs),
            encoded_fields(self.graph_others),
        ]
        metadata = [metadata_field(key, text) for key, text in self.metadata.items()]
        return b"".join([encoded_fields(self.others), message_field(_MODEL_GRAPH, b"".join(graph)), *metadata])


def metadata_field(key: str, text: str) -> bytes:
    """Return an encoded metadata entry of a model; it may also be appended to a whole file."""
    return message_field(_MODEL_METADATA, text_field(1, key) + text_field(2, text))


def value_info(name: str, type: int, shape: Iterable[int | str] | None) -> bytes:
    """Return the declaration of an input or an output; a size given by name is dynamic, as is a shape of None."""
    dimensions = b""
    if shape is not None:
        sizes = (text_field(2, size) if isinstance(size, str) else number_field(1, size) for size in shape)
        dimensions = message_field(2, b"".join(message_field(1, size) for size in sizes))
    return text_field(1, name) + message_field(2, message_field(1, number_field(1, type) + dimensions))


def integer(name: str, value: int) -> bytes:
    """Return an integer attribute."""
    return text_field(1, name) + number_field(3, value) + number_field(20, 2)


def real(name: str, value: float) -> bytes:
    """Return a floating-point attribute."""
    return text_field(1, name) + fixed32_field(2, struct.pack("<f", value)) + number_field(20, 1)


def _node(data: bytes) -> Node:
    node = Node("", [], [])
    for number, kind, value in fields(data):
        if number in (1, 2):
            (node.inputs if number == 1 else node.outputs).append(as_bytes(value).decode())
        elif number == 4:
            node.operator = as_bytes(value).decode()
        elif number == 5:
            name = next(as_bytes(text).decode() for key, _, text in fields(as_bytes(value)) if key == 1)
            node.attributes[name] = as_bytes(value)
        else:
            node.others.append((number, kind, value))
    return node


def _tensor(data: bytes) -> Tensor:
    shape: list[int] = []
    found: dict[int, int | bytes] = {}
    external: dict[str, str] = {}
    for number, kind, value in fields(data):
        if number == 1:
            shape += [value] if kind == VARINT else varints(as_bytes(value))  # type: ignore[list-item]
        elif number == 13:
            external |= [_entry(as_bytes(value))]
        else:
            found[number] = value
    location = external.get("location")
    name, type_ = as_bytes(found.get(8, b"")).decode(), found.get(2, 0)
    if location is None and 9 not in found and np.prod(shape, dtype=np.int64):
        raise ValueError(f"the values of {name} are not raw bytes")
    raw = None if location is not None else as_bytes(found.get(9, b""))
    return Tensor(name, int(type_), tuple(shape), raw, location, int(external.get("offset", 0)))


def _entry(data: bytes) -> tuple[str, str]:
    texts = {number: as_bytes(value).decode() for number, _, value in fields(data)}
    return texts.get(1, ""), texts.get(2, "")
