"""Protobuf's wire format: messages parsed into fields, and built from them."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, _FIXED64, _BYTES, FIXED32 = 0, 1, 2, 5
"""How a value is encoded (its wire type)."""

Fields = list[tuple[int, int, "int | bytes"]]
"""Number, wire type and value of each field; the value is an integer or bytes."""


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yield a message's fields. Raises `ValueError` or `IndexError` for malformed data."""
    position, end = 0, len(data)
    while position < end:
        key, position = _read_varint(data, position)
        kind = key & 7
        value: int | bytes
        if kind == VARINT:
            value, position = _read_varint(data, position)
        else:
            if kind == _BYTES:
                length, position = _read_varint(data, position)
            else:
                length = {_FIXED64: 8, FIXED32: 4}[kind] if kind in (_FIXED64, FIXED32) else -1
            if length < 0 or position + length > end:
                raise ValueError("a field ends beyond the file")
            value, position = bytes(data[position : position + length]), position + length
        yield key >> 3, kind, value


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise ValueError("a number has too many bytes")


def varints(data: bytes) -> list[int]:
    """Return the numbers of a packed list."""
    position, values = 0, []
    while position < len(data):
        value, position = _read_varint(data, position)
        values.append(value)
    return values


def encoded_fields(fields: Fields) -> bytes:
    """Return fields as a message."""
    parts = []
    for number, kind, value in fields:
        if kind == _BYTES:
            parts.append(message_field(number, as_bytes(value)))
        elif kind == VARINT:
            parts.append(number_field(number, int(value)))
        else:
            parts.append(_key(number, kind) + as_bytes(value))
    return b"".join(parts)


def as_bytes(value: int | bytes) -> bytes:
    """Return a value that must be bytes. Raises `ValueError` for a number."""
    if isinstance(value, int):
        raise ValueError("a message was expected and a number found")
    return value


def fixed32_field(number: int, value: bytes) -> bytes:
    """Return a field of four bytes."""
    return _key(number, FIXED32) + value


def _key(number: int, kind: int) -> bytes:
    return _varint_bytes(number << 3 | kind)


def number_field(number: int, value: int) -> bytes:
    """Return an integer field."""
    return _key(number, VARINT) + _varint_bytes(value)


def message_field(number: int, data: bytes) -> bytes:
    """Return a field that is a message or bytes."""
    return _key(number, _BYTES) + _varint_bytes(len(data)) + data


def text_field(number: int, text: str) -> bytes:
    """Return a text field."""
    return message_field(number, text.encode())


def _varint_bytes(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers take ten bytes
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
