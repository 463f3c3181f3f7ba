"""JSON documents that clients send: parsed strictly, and with few complaints however much is wrong."""

from __future__ import annotations

import codecs
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import from_json

from subspace_serve.errors import DataError

MAX_ENTRIES = 1000
"""Limit on a list or an object other than pixels. Each entry may be wrong, and reporting millions takes a minute."""


class RequestError(DataError):
    """A request that its endpoint cannot take."""


class Document(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MAX_ENTRIES:
            raise ValueError(f"got {len(value)} fields, the limit is {MAX_ENTRIES}")
        return value


def load_json(body: bytes) -> Any:
    """Parse JSON. Raises `RequestError`, also for NaN, infinities and keys that are given twice."""
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        # Not parsed by the validation, which would accept NaN in lists whose elements it does not check.
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    _check_keys(body, value)
    return value


def _check_keys(body: bytes, value: Any) -> None:
    """Raise `RequestError` if a key is given twice in one object: parsing keeps the last, but which was meant?

    Each key is followed by a colon, so if there are no more colons than keys were kept, none was lost. Pixels and
    base64 have no colons, and this count is all that they cost. More colons may also be within strings, or in an object
    where none is expected; then the body is parsed again.
    """
    position = -1
    for _ in range(_count_keys(value)):
        position = body.find(b":", position + 1)
    if body.find(b":", position + 1) >= 0:
        json.loads(body.decode(), object_pairs_hook=_refuse_twice, parse_int=float)


def _count_keys(value: Any) -> int:
    """Count the keys of all objects, except within lists whose first element is not an object, such as images."""
    count, rest = 0, [value]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            count += len(value)
            rest.extend(value.values())
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            rest.extend(value)
    return count


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    names = set()
    for name, _ in pairs:
        if name in names:
            raise RequestError(f"the key {name!r:.120} is given twice; give it once")
        names.add(name)
