"""What clients send: parsed, checked and turned into one array of pixels."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from service.settings import Settings
from subspace_serve.bundle.images import decode_image
from subspace_serve.bundle.manifest import Aggregate, Input, describe
from subspace_serve.errors import DataError

_Byte = Annotated[int, Field(ge=0, le=255)]
_UnitFloat = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_PIXELS: dict[str, TypeAdapter[Any]] = {
    "uint8": TypeAdapter(list[list[list[_Byte]]], config=ConfigDict(strict=True)),
    "float32": TypeAdapter(list[list[list[_UnitFloat]]], config=ConfigDict(strict=True)),
}
_LISTS = ("members", "weights")


class RequestError(DataError):
    """A request that is not what its endpoint takes."""


class Options(BaseModel):
    """The choices that both endpoints share. `resize` concerns image files only; pixel arrays must fit as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str | None = None
    members: list[str] | None = None
    weights: list[float] | None = None
    aggregate: Aggregate | None = None
    top_k: Annotated[int, Field(ge=1)] = 5
    return_members: bool = False
    resize: bool = True


class PredictRequest(Options):
    """The body of POST /predict: each image a nested list of pixels or a base64-encoded image file."""

    images: Annotated[list[Any], Field(min_length=1)]


def parse_json(body: bytes) -> PredictRequest:
    """Parse the body of POST /predict. Raises `RequestError`; numbers, booleans and strings are never mixed up."""
    try:
        # Parsed apart from validation, where a NaN would pass for a number in a free list.
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    try:
        return PredictRequest.model_validate(document, strict=True)
    except ValidationError as error:
        raise RequestError(f"the request is not valid: {describe(error)}") from None


def parse_fields(fields: Sequence[tuple[str, Any]]) -> tuple[Options, list[Any]]:
    """Split a form's fields into options and the files named `images`.

    Lists (members, weights) are repeated fields, or separated by commas. Raises `RequestError`.
    """
    values: dict[str, Any] = {}
    files = []
    for name, value in fields:
        is_file = not isinstance(value, str)
        if is_file != (name == "images"):
            expected = "files" if name == "images" else "text (only `images` are files)"
            raise RequestError(f"the form's field {name!r:.120} must be {expected}")
        if is_file:
            files.append(value)
        elif name in _LISTS:
            values.setdefault(name, []).extend(part.strip() for part in value.split(","))
        elif name in values:
            raise RequestError(f"the form's field {name!r:.120} is given twice; give it once")
        else:
            values[name] = value
    if not files:
        raise RequestError("the form has no image; send at least one file in the field `images`")
    try:
        return Options.model_validate(values), files
    except ValidationError as error:
        raise RequestError(f"the form is not valid: {describe(error)}") from None


def image_array(images: Sequence[Any], input: Input, settings: Settings, resize: bool) -> np.ndarray:
    """Turn files (bytes, or base64 text) and nested lists of pixels into one array for the graph.

    Raises `DataError` with the number of the image that does not fit, `ImageTooLargeError` over the pixel limit.
    """
    if len(images) > settings.max_images:
        raise RequestError(f"got {len(images)} images, the limit is {settings.max_images}; send several requests")
    arrays = []
    for index, image in enumerate(images):
        with _numbered(index):
            if isinstance(image, str):
                image = _base64(image)
            if isinstance(image, bytes):
                arrays.append(decode_image(image, input, resize=resize, max_pixels=settings.max_pixels))
            else:
                arrays.append(_pixels(image, input))
    return np.stack(arrays)


def _pixels(image: Any, input: Input) -> np.ndarray:
    try:
        values = _PIXELS[input.dtype].validate_python(image)
        array = np.array(values, dtype=input.dtype)
    except ValidationError as error:
        raise RequestError(
            f"an image must be nested lists of {_range(input)}, or base64-encoded: {describe(error, limit=1)}"
        ) from None
    except ValueError:
        raise RequestError("pixels must be nested lists of equal lengths") from None
    if array.shape != input.shape:
        raise RequestError(f"got pixels of shape {array.shape}, expected {input.shape} ({input.layout})")
    return array


def _range(input: Input) -> str:
    return "whole numbers from 0 to 255" if input.dtype == "uint8" else "numbers from 0 to 1"


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("text must be a base64-encoded image file; addresses are not fetched") from None


@contextlib.contextmanager
def _numbered(index: int) -> Iterator[None]:
    """Put the number of the image before the message of an error about it."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"images[{index}]: {error}") from None
