"""What clients send to /predict and /predict_image: images, and who shall classify them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, ValidationError
from typing_extensions import TypeAliasType

from service.documents import MAX_ENTRIES, Document, RequestError, load_json
from service.engine import Question
from service.images import image_array
from service.schemas import DocumentedAs, Json, alone, without_null
from service.settings import Settings
from subspace_serve.bundle.manifest import Aggregate, Input, describe
from subspace_serve.bundle.promises import Promises
from subspace_serve.bundle.record import Share
from subspace_serve.space.place import place_or_name
from subspace_serve.suggestions import did_you_mean

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
_MANY = 4  # more images than this are turned from lists of pixels into arrays off the event loop

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

        def decode(input: Input, deadline: float) -> np.ndarray:
            array = image_array(images, input, limits, self.resize, deadline)
            images.clear()  # while it waits for its turn, a request holds its array, and not what that came from too
            return array

        return Question(
            decode=decode,
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
        values["members"] = [place_or_name(member) for member in values["members"]]
    if len(values.get("alpha", ())) == 1:
        (values["alpha"],) = values["alpha"]
    try:
        return PredictForm.model_validate(values | {"images": files})
    except ValidationError as error:
        raise RequestError(f"the form is not valid: {describe(error, known=_FIELDS)}") from None
