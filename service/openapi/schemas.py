"""The document's schemas: requests as pydantic's models have them, answers as the service promises them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from service.inference_protocol.request import InferRequest, RepositoryIndexRequest
from service.inference_protocol.response import CLASSIFIED, OUTPUTS
from service.openapi.answers import ANSWERS
from service.openapi.parts import Json, ref
from service.requests import Options, PredictRequest
from service.settings import Settings

_REFERENCE = "#/components/schemas/{model}"

_OPTIONS = {
    "model": "A point or an ensemble by its name; the default answers when it is left out.",
    "members": "Points to average: alone an ensemble of its own, with `model` a subset of that ensemble.",
    "weights": "One a member, not negative, with a positive sum; normalised. Left out: equal, or the ensemble's own.",
    "aggregate": "What is averaged; the ensemble's own, or probabilities, if left out.",
    "alpha": "The point that was exported at this place: a number on a line or a curve, numbers on a simplex. "
    "Not together with model, members, weights or aggregate.",
    "top_k": "Labels of each prediction, the most probable first.",
    "return_members": "Whether to say what each member answered.",
    "resize": "Whether image files of another size are cut to the network's proportions and scaled; else they are "
    "refused. Pixels must fit as they are.",
}

_PIXELS: Json = {
    "description": "An image's pixels in nested lists. For a uint8 model whole numbers from 0 to 255, without a "
    "decimal point, by row, column and channel (NHWC); for a float32 model numbers from 0 to 1, by channel, row "
    "and column (NCHW). The sizes are those of `input` in GET /models.",
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "array",
        "minItems": 1,
        "items": {"type": "array", "minItems": 1, "items": {"type": "number", "minimum": 0, "maximum": 255}},
    },
}

_PARAMETERS: dict[str, Json] = {
    "members": {"type": "string", "description": "A list of points' names as a JSON string.", "examples": ['["a"]']},
    "weights": {"type": "string", "description": "A list of numbers as a JSON string.", "examples": ["[3, 1]"]},
    "aggregate": {"type": "string", "enum": ["probabilities", "logits"]},
    "alpha": {
        "type": ["number", "string"],
        "description": "A number, or a list of numbers as a JSON string. The point there answers, whatever model the "
        "address names.",
    },
    "timeout": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "Microseconds; the server's deadline holds too.",
    },
    "binary_data_output": {"type": "boolean", "description": "Whether outputs come as binary data unless they say."},
}

_OUTPUT_PARAMETERS: dict[str, Json] = {
    "binary_data": {"type": "boolean", "description": "Whether the tensor comes as binary data after the JSON."},
    "classification": {
        "type": "integer",
        "minimum": 1,
        "description": "For probabilities and logits: as many greatest classes, as BYTES of `value:index:label`.",
    },
}


def schemas(settings: Settings) -> Json:
    """Return the components of all schemas."""
    return {
        "Error": {
            "type": "object",
            "required": ["error"],
            "additionalProperties": False,
            "properties": {"error": {"type": "string", "description": "What was wrong, what was found, what to do."}},
        },
        "ModelName": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": 100},
        "Pixels": _PIXELS,
        "ImageFile": {
            "description": f"A PNG, JPEG, WebP, GIF, BMP or TIFF file of at most {settings.max_pixels} pixels.",
            "type": "string",
            "contentEncoding": "base64",
        },
        "PredictRequest": _predict_request(settings),
        "PredictForm": _predict_form(settings),
        **_infer_request(settings),
        **ANSWERS,
    }


def _predict_request(settings: Settings) -> Json:
    document: Json = _schema(PredictRequest)["PredictRequest"]
    document["description"] = "Images and who shall classify them."
    _add_to_options(document, {"type": "null"})
    document["properties"]["images"] |= {
        "description": f"At most {settings.max_images} images.",
        "maxItems": settings.max_images,
        "items": {"anyOf": [ref("schemas", "ImageFile"), ref("schemas", "Pixels")]},
    }
    return document


def _predict_form(settings: Settings) -> Json:
    document: Json = _schema(Options)["Options"]
    document["description"] = "Image files and the options of /predict."
    # A form has no null: an option is left out.
    _add_to_options(document, False)
    properties = {name: _without_null(schema) for name, schema in document["properties"].items()}
    # One field or several.
    alpha = {"type": "array", "items": {"type": "number"}, "minItems": 1}
    properties["alpha"] = {"description": properties["alpha"]["description"]} | alpha
    images = {
        "description": f"At most {settings.max_images} files of at most {settings.max_pixels} pixels.",
        "type": "array",
        "minItems": 1,
        "maxItems": settings.max_images,
        "items": {"type": "string", "format": "binary"},
    }
    return document | {"properties": {"images": images} | properties, "required": ["images"]}


def _infer_request(settings: Settings) -> Json:
    documents = _schema(InferRequest) | _schema(RepositoryIndexRequest)
    documents["RepositoryIndexRequest"]["description"] = "Which models to list."
    request = documents["InferRequest"]["properties"]
    request["id"]["description"] = "Comes back in the answer."
    request["model_name"]["description"] = "Of no effect: the path names the model."
    request["parameters"] = _parameters(_PARAMETERS) | _alone("alpha", ("members", "weights", "aggregate"), False)
    request["inputs"]["maxItems"] = 1
    request["outputs"]["description"] = (
        "Left out: probabilities and entropy, of ensembles mutual_information and disagreement too."
    )
    tensor = documents["InputTensor"]["properties"]
    tensor["name"]["description"] = "`image`, or what `input.name` of GET /models says."
    tensor["shape"] |= {
        "description": f"Four numbers: images, of which there may be {settings.max_images}, and an image's shape.",
        "minItems": 4,
        "maxItems": 4,
        "items": {"type": "integer", "minimum": 1},
    }
    tensor["datatype"] |= {
        "description": "UINT8 (NHWC, 0 to 255) or FP32 (NCHW, 0 to 1), as the model's metadata says.",
        "enum": ["UINT8", "FP32"],
    }
    tensor["parameters"] = _parameters({"binary_data_size": {"type": "integer", "minimum": 1}})
    tensor["parameters"]["description"] = "Instead of `data`: how many bytes of the tensor follow the JSON document."
    tensor["data"]["description"] = "The numbers, flat in row-major order or nested as the shape says."
    output = documents["OutputTensor"]["properties"]
    output["name"]["enum"] = list(OUTPUTS)
    output["parameters"] = _parameters(_OUTPUT_PARAMETERS)
    documents["OutputTensor"] |= {
        "if": {"properties": {"name": {"enum": list(CLASSIFIED)}}},
        "else": {"properties": {"parameters": {"properties": {"classification": False}}}},
    }
    return documents


def _parameters(properties: dict[str, Json]) -> Json:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _add_to_options(document: Json, absent: Json | bool) -> None:
    """Add what the models check beyond their types; `absent` is the schema of an option that is left out."""
    properties = document["properties"]
    for name, text in _OPTIONS.items():
        properties[name]["description"] = text
    names, _ = properties["members"]["anyOf"]
    names |= {"minItems": 1, "uniqueItems": True}
    weights, _ = properties["weights"]["anyOf"]
    weights |= {"minItems": 1, "items": {"type": "number", "minimum": 0}}
    document |= _alone("alpha", ("model", "members", "weights", "aggregate"), absent)


def _alone(name: str, others: Sequence[str], absent: Json | bool) -> Json:
    """Return what makes a schema exclude other properties where one is there; `absent` is their schema then."""
    return {"dependentSchemas": {name: {"properties": dict.fromkeys(others, absent)}}}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's schema and those that it refers to, by name, without the titles that repeat the names."""
    document = model.model_json_schema(ref_template=_REFERENCE)
    others = document.pop("$defs", {})
    return {name: _untitled(schema) for name, schema in {model.__name__: document, **others}.items()}


def _untitled(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            name: _untitled(value) for name, value in schema.items() if not (name == "title" and isinstance(value, str))
        }
    return [_untitled(value) for value in schema] if isinstance(schema, list) else schema


def _without_null(schema: Json) -> Json:
    if "anyOf" not in schema:
        return schema
    only: Json = schema["anyOf"][0]
    return {name: value for name, value in schema.items() if name not in ("anyOf", "default")} | only
