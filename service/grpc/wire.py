"""How much of a message is not tensors' data, found on the wire, before anything is made of it.

Two bytes may become an object of a hundred, so a message's size alone does not bound what decoding it takes; see
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Data = Mapping[int, Any]
"""Fields by their numbers: None for data that takes as much memory as bytes on the wire, or the fields within."""

_FIXED = {1: 8, 5: 4}  # bytes of a value, by its wire type
_VARINT, _BYTES = 0, 2
_VARINT_BYTES = 10


class WireError(ValueError):
    """The bytes are no message."""


def bytes_besides(data: Data, message: bytes, limit: int) -> int:
    """Return how many bytes of a message are not in the fields `data`; counts to a little over `limit` at most.

    Raises `WireError`, also for groups, which newer definitions of messages cannot have.
    """
    return _besides(data, message, 0, len(message), limit)


def _besides(data: Data, message: bytes, position: int, end: int, limit: int) -> int:
    count = 0
    while position < end and count <= limit:
        key, after = _varint(message, position, end)
        field, kind = key >> 3, key & 7
        if kind == _BYTES:
            length, after = _varint(message, after, end)
            stop = after + length
        elif kind == _VARINT:
            _, stop = _varint(message, after, end)
        elif kind in _FIXED:
            stop = after + _FIXED[kind]
        else:
            raise WireError
        if stop > end:
            raise WireError
        if kind != _BYTES or field not in data:
            count += stop - position
        else:
            count += after - position
            if (inner := data[field]) is not None:
                count += _besides(inner, message, after, stop, limit - count)
        position = stop
    return count


def _varint(message: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[position : min(end, position + _VARINT_BYTES)]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise WireError
