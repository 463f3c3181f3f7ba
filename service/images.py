"""The images of a request, files and nested lists of numbers, become one array for the graph."""

from __future__ import annotations

import base64
import binascii
import contextlib
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import ConfigDict, FailFast, Field, TypeAdapter, ValidationError

from service.documents import RequestError
from service.job import DeadlineError
from service.settings import Settings
from subspace_serve.bundle.images import decode_image
from subspace_serve.bundle.manifest import Input, describe
from subspace_serve.errors import DataError

_Byte = Annotated[int, Field(ge=0, le=255)]
_UnitFloat = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Item = TypeVar("_Item")
_List = Annotated[list[_Item], FailFast()]  # one complaint is enough; a million of them take seconds
_PIXELS: dict[str, TypeAdapter[Any]] = {
    "uint8": TypeAdapter(_List[_List[_List[_Byte]]], config=ConfigDict(strict=True)),
    "float32": TypeAdapter(_List[_List[_List[_UnitFloat]]], config=ConfigDict(strict=True)),
}
_MAX_DIMENSIONS = 8


def image_array(
    images: Sequence[Any], input: Input, limits: Settings, resize: bool, deadline: float = float("inf")
) -> np.ndarray:
    """Turn files (bytes, or base64 text) and nested lists of pixels into one array for the graph.

    Raises `DataError` with the index of the image that does not fit, `ImageTooLargeError` over the pixel limit, and
    `DeadlineError` when `deadline`, on the clock of `time.monotonic`, passes between two images: nothing else would
    stop this function.
    """
    check_count(len(images), limits)
    arrays = []
    for index, image in enumerate(images):
        if time.monotonic() > deadline:
            raise DeadlineError
        with _numbered(index):
            if isinstance(image, str):
                image = _base64(image)
            if isinstance(image, bytes):
                arrays.append(decode_image(image, input, resize=resize, max_pixels=limits.max_pixels))
            else:
                arrays.append(_pixels(image, input))
    return np.stack(arrays)


def check_count(images: int, limits: Settings) -> None:
    """Raise `RequestError` when a request has more images than the limit."""
    if images > limits.max_images:
        raise RequestError(f"got {images} images, the limit is {limits.max_images}; send several requests")


def numbers(values: list[Any], dtype: str) -> np.ndarray | None:
    """Return nested lists of numbers as an array, quickly; None when they are not what `dtype` takes.

    Types are checked first, since numpy takes booleans for numbers, and gives each string the memory of the longest.
    """
    shape = [len(values)]
    while values and isinstance(values[0], list):
        lengths = set(map(len, values)) if set(map(type, values)) == {list} else set()
        if len(lengths) != 1:
            return None
        shape += lengths
        values = list(chain.from_iterable(values))
    types = set(map(type, values))
    if not types or len(shape) > _MAX_DIMENSIONS:
        return None
    if dtype == "uint8":
        try:
            # Faster than numpy, and `bytes` refuses what is not from 0 to 255.
            return np.frombuffer(bytes(values), np.uint8).reshape(shape) if types == {int} else None
        except (ValueError, OverflowError):
            return None
    if not types <= {int, float}:
        return None
    array = np.array(values).reshape(shape)
    return array.astype(dtype) if array.dtype.kind in "iuf" and array.min() >= 0 and array.max() <= 1 else None


def _pixels(image: Any, input: Input) -> np.ndarray:
    array = numbers(image, input.dtype) if isinstance(image, list) else None
    if array is None or array.ndim != 3:
        array = _checked_pixels(image, input)
    if array.shape != input.shape:
        raise RequestError(f"got pixels of shape {array.shape}, expected {input.shape} ({input.layout})")
    return array


def _checked_pixels(image: Any, input: Input) -> np.ndarray:
    """Turn nested lists into an array by validating each number, so that the message can name what is wrong."""
    try:
        return np.array(_PIXELS[input.dtype].validate_python(image), dtype=input.dtype)
    except ValidationError as error:
        raise RequestError(
            f"an image must be nested lists of {_range(input)}, or base64-encoded: {describe(error, limit=1)}"
        ) from None
    except ValueError:
        raise RequestError("pixels must be nested lists of equal lengths") from None


def _range(input: Input) -> str:
    return "whole numbers from 0 to 255" if input.dtype == "uint8" else "numbers from 0 to 1"


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("text must be a base64-encoded image file; addresses are not fetched") from None


@contextlib.contextmanager
def _numbered(index: int) -> Iterator[None]:
    """Put the image's index in front of an error's message."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"images[{index}]: {error}") from None
