"""What clients send to /predict and /predict_image: parsed, checked and turned into one array of pixels."""

from __future__ import annotations

import base64
import binascii
import codecs
import contextlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import from_json
from typing_extensions import TypeAliasType

from service.engine import Question
from service.job import DeadlineError
from service.schemas import DocumentedAs, Json, alone, without_null
from service.settings import Settings
from subspace_serve.bundle.images import decode_image
from subspace_serve.bundle.manifest import Aggregate, Input, describe
from subspace_serve.bundle.promises import Promises
from subspace_serve.bundle.record import Share
from subspace_serve.errors import DataError
from subspace_serve.suggestions import did_you_mean

_Byte = Annotated[int, Field(ge=0, le=255)]
_UnitFloat = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Item = TypeVar("_Item")
_List = Annotated[list[_Item], FailFast()]  # one complaint is enough; a million of them take seconds
_PIXELS: dict[str, TypeAdapter[Any]] = {
    "uint8": TypeAdapter(_List[_List[_List[_Byte]]], config=ConfigDict(strict=True)),
    "float32": TypeAdapter(_List[_List[_List[_UnitFloat]]], config=ConfigDict(strict=True)),
}
MAX_ENTRIES = 1000
"""Limit on a list or an object other than pixels. Each entry may be wrong, and reporting millions takes a minute."""

Numbers = Annotated[list[float], Field(max_length=MAX_ENTRIES)]
Members = Annotated[
    list[str | float | Numbers], Field(max_length=MAX_ENTRIES, json_schema_extra={"minItems": 1, "uniqueItems": True})
]
Weights = Annotated[
    list[float],
    Field(max_length=MAX_ENTRIES, json_schema_extra={"minItems": 1, "items": {"type": "number", "minimum": 0}}),
]
COVERAGE = (
    "Between 0 and 1: each image gets a `set` of labels that holds the right one with at least this probability, on "
    "images like those that the bundle was calibrated on."
)
MAX_RISK = (
    "Between 0 and 1: each image gets `abstained`, so that at most this share of the answers that do not abstain is "
    "wrong, on images like those that the bundle was calibrated on. The labels are there in any case."
)
_LISTS = ("members", "weights", "alpha")
_ANSWERING = ("model", "members", "weights", "aggregate")
_DECIMAL = re.compile(r"[01]?\.[0-9]+|[01]")
"""A place in a form's text, such as 0.3, .5 or 1. Other numbers may be names."""
_MAX_DIMENSIONS = 8
_MANY = 4  # more images than this are turned from lists of pixels into arrays off the event loop


class RequestError(DataError):
    """A request that its endpoint cannot take."""


def few_fields(value: Any) -> Any:
    """Return `value` unless it is an object with more than `MAX_ENTRIES` fields: then raise `ValueError`."""
    if isinstance(value, dict) and len(value) > MAX_ENTRIES:
        raise ValueError(f"got {len(value)} fields, the limit is {MAX_ENTRIES}")
    return value


class Document(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    _has_few_fields = model_validator(mode="before")(few_fields)


ImageFile = TypeAliasType("ImageFile", Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})])
_Numbers = Annotated[list[Annotated[float, Field(ge=0, le=255)]], Field(min_length=1)]
Pixels = TypeAliasType(
    "Pixels",
    Annotated[
        list[Annotated[list[_Numbers], Field(min_length=1)]],
        Field(
            min_length=1,
            description="An image's pixels in nested lists. For a uint8 model whole numbers from 0 to 255, without a "
            "decimal point, by row, column and channel (NHWC); for a float32 model numbers from 0 to 1, by channel, "
            "row and column (NCHW). The sizes are those of `input` in GET /models.",
        ),
    ],
)


class PredictRequest(Document):
    """Images and who shall classify them."""

    model_config = ConfigDict(json_schema_extra=alone("alpha", _ANSWERING, {"type": "null"}))

    # Validated later, once it is known which model answers.
    images: Annotated[list[Annotated[Any, DocumentedAs(ImageFile | Pixels)]], Field(min_length=1)]
    model: str | None = Field(
        None, description="A point or an ensemble by its name; the default answers when it is left out."
    )
    members: Members | None = Field(
        None,
        description="What to average: points by name and places of the subspace as numbers; alone an ensemble of its "
        "own, with `model` a subset of that ensemble.",
    )
    weights: Weights | None = Field(
        None,
        description="One a member, not negative, with a positive sum; normalised. Left out: equal, or the ensemble's "
        "own.",
    )
    aggregate: Aggregate | None = Field(
        None, description="What is averaged; the ensemble's own, or probabilities, if left out."
    )
    alpha: float | Numbers | None = Field(
        None,
        description="The network at this place of the subspace: a number on a line or a curve, numbers on a simplex. "
        "Not together with model, members, weights or aggregate.",
    )
    domain: str | None = Field(
        None,
        description="Whose BatchNorm statistics the networks have; alone, the domain's own network answers.",
    )
    coverage: Share | None = Field(None, description=COVERAGE)
    max_risk: Share | None = Field(None, description=MAX_RISK)
    top_k: Annotated[int, Field(ge=1)] = Field(5, description="Labels of each prediction, the most probable first.")
    return_members: bool = Field(False, description="Whether to say what each member answered.")
    resize: bool = Field(
        True,
        description="Whether image files of another size are cut to the network's proportions and scaled; else they "
        "are refused. Pixels must fit as they are.",
    )

    def question(self, limits: Settings, *, large: bool = False) -> Question:
        """Return the question for the engine; images of a `large` body are decoded off the event loop."""
        images = self.images
        return Question(
            decode=lambda input, deadline: image_array(images, input, limits, self.resize, deadline),
            slow=large or len(images) > _MANY or any(isinstance(image, str | bytes) for image in images),
            model=self.model,
            members=self.members,
            weights=self.weights,
            aggregate=self.aggregate,
            alpha=self.alpha,
            domain=self.domain,
            promises=Promises(self.coverage, self.max_risk),
        )


def _form_schema(schema: Json) -> None:
    without_null(schema)
    # One field or several.
    schema["properties"]["alpha"] |= {"type": "array", "items": {"type": "number"}, "minItems": 1}
    schema |= alone("alpha", _ANSWERING, False)


class PredictForm(PredictRequest):
    """Image files and the options of /predict."""

    model_config = ConfigDict(json_schema_extra=_form_schema)

    images: Annotated[list[Annotated[bytes, Field(json_schema_extra={"format": "binary"})]], Field(min_length=1)]


_FIELDS = PredictRequest.model_fields.keys()  # a form has the same


def parse_json(body: bytes) -> PredictRequest:
    """Parse the body of POST /predict. Raises `RequestError`; no type is converted to another (strict validation)."""
    try:
        return PredictRequest.model_validate(load_json(body), strict=True)
    except ValidationError as error:
        raise RequestError(f"the request is not valid: {describe(error, known=_FIELDS)}") from None


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


def parse_form(fields: Sequence[tuple[str, str | bytes]]) -> PredictForm:
    """Assemble a form's fields, of which those named `images` are files.

    Lists (members, weights, a simplex's alpha) are repeated fields, or separated by commas; a member such as 0.3
    is a place. Raises `RequestError`.
    """
    values: dict[str, Any] = {}
    files = []
    for name, value in fields:
        if isinstance(value, bytes) != (name == "images"):
            expected = "files" if name == "images" else "text (only `images` are files)"
            hint = did_you_mean(name, ["images"]) if isinstance(value, bytes) else ""
            raise RequestError(f"the form's field {name!r:.120} must be {expected}" + (f"; {hint}" if hint else ""))
        if isinstance(value, bytes):
            files.append(value)
        elif name in _LISTS:
            values.setdefault(name, []).extend(part.strip() for part in value.split(","))
        elif name in values:
            raise RequestError(f"the form's field {name!r:.120} is given twice; give it once")
        else:
            values[name] = value
    if not files:
        raise RequestError("the form has no image; send at least one file in the field `images`")
    if "members" in values:
        values["members"] = [_place_or_name(member) for member in values["members"]]
    if len(values.get("alpha", ())) == 1:
        (values["alpha"],) = values["alpha"]
    try:
        return PredictForm.model_validate(values | {"images": files})
    except ValidationError as error:
        raise RequestError(f"the form is not valid: {describe(error, known=_FIELDS)}") from None


def _place_or_name(text: str) -> float | str:
    return float(text) if _DECIMAL.fullmatch(text) else text


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
