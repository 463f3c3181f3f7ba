"""The schemas of answers, closed: nothing comes that is not named here."""

from __future__ import annotations

from service.inference_protocol.response import OUTPUTS
from service.openapi.parts import Json, ref

_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "number"}
_NATS: Json = {"type": "number", "minimum": 0, "description": "In nats."}
_UNIT: Json = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT: Json = {"type": "integer", "minimum": 1}
_AGGREGATE: Json = {"type": "string", "enum": ["probabilities", "logits"]}
_NAME = ref("schemas", "ModelName")
_TEMPERATURE: Json = {
    "type": "number",
    "exclusiveMinimum": 0,
    "description": "T: the answer's probabilities p are p^(1/T), normalised.",
}
_METRICS: Json = {"type": "object", "additionalProperties": _NUMBER, "description": "Measured at export."}


def _object(required: dict[str, Json], optional: dict[str, Json] | None = None) -> Json:
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
        "additionalProperties": False,
    }


def _list(items: Json, **more: object) -> Json:
    return {"type": "array", "items": items, **more}


_ANSWERING = {
    "members": _list(_NAME, minItems=1, description="The points that answered."),
    "weights": _list(_UNIT, minItems=1, description="The members' weights; their sum is 1."),
}
_RANKED = _list(
    ref("schemas", "RankedLabel"), minItems=1, description="The most probable labels, the most probable first."
)

_PREDICTIONS: dict[str, Json] = {
    "RankedLabel": _object({"label": _TEXT, "index": {"type": "integer", "minimum": 0}, "probability": _UNIT}),
    "MemberPrediction": _object({"model": _NAME, "labels": _RANKED, "entropy": _NATS}),
    "Prediction": _object(
        {"labels": _RANKED, "entropy": _NATS},
        {
            "mutual_information": _NATS
            | {"description": "Of ensembles: the mixture's entropy less the members' mean entropy, in nats."},
            "disagreement": _UNIT
            | {"description": "Of ensembles: the members' mean total-variation distance to their mixture."},
            "members": _list(ref("schemas", "MemberPrediction"), description="With `return_members`."),
        },
    ),
    "Predictions": _object(
        {
            "model": {
                "type": ["string", "null"],
                "description": "Who answered; null where members were chosen freely.",
            },
            **_ANSWERING,
            "aggregate": {"enum": ["probabilities", "logits", None], "description": "Null for a single point."},
            "temperature": _TEMPERATURE,
            "predictions": _list(ref("schemas", "Prediction"), minItems=1),
        },
        {
            "missing": {
                "type": "object",
                "additionalProperties": _TEXT,
                "description": "Why members did not answer; only where a quorum answered without them.",
            }
        },
    ),
}

_MODELS: dict[str, Json] = {
    "Point": _object(
        {
            "name": _NAME,
            "type": {"const": "point"},
            "alpha": {"type": ["number", "array", "null"], "items": _NUMBER},
            "coefficients": _list(_NUMBER, description="The endpoints' weights in this point."),
            "metrics": _METRICS,
            "temperature": _TEMPERATURE,
        }
    ),
    "Ensemble": _object(
        {
            "name": _NAME,
            "type": {"const": "ensemble"},
            "members": _list(_NAME, minItems=1),
            "weights": _list({"type": "number", "minimum": 0}, minItems=1, description="They need not sum to 1."),
            "aggregate": _AGGREGATE,
            "temperature": _TEMPERATURE,
            "metrics": _METRICS,
        }
    ),
    "Models": _object(
        {
            "default": _NAME,
            "bundle": ref("schemas", "BundleIdentity"),
            "models": _list({"oneOf": [ref("schemas", "Point"), ref("schemas", "Ensemble")]}, minItems=1),
            "labels": _list(_TEXT, minItems=1),
            "input": _object(
                {
                    "name": _TEXT,
                    "dtype": {"enum": ["uint8", "float32"]},
                    "layout": {"enum": ["NHWC", "NCHW"]},
                    "height": _COUNT,
                    "width": _COUNT,
                    "channels": _COUNT,
                }
            ),
        }
    ),
    "BundleIdentity": _object(
        {"sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "Of the bundle's manifest."}}
    ),
    "Reloaded": _object({"bundle": ref("schemas", "BundleIdentity")}),
}

_SHAPE = _list({"type": "integer", "minimum": -1})

_PROTOCOL: dict[str, Json] = {
    "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
    "Live": _object({"live": {"type": "boolean"}}),
    "Ready": _object({"ready": {"type": "boolean"}}),
    "ModelReady": _object({"name": _NAME, "ready": {"type": "boolean"}}),
    "TensorMetadata": _object({"name": _TEXT, "datatype": {"enum": ["UINT8", "FP32"]}, "shape": _SHAPE}),
    "ModelMetadata": _object(
        {
            "name": _NAME,
            "versions": _list({"const": "1"}),
            "platform": _TEXT,
            "inputs": _list(ref("schemas", "TensorMetadata"), minItems=1, maxItems=1),
            "outputs": _list(ref("schemas", "TensorMetadata"), minItems=1),
        }
    ),
    "TensorConfiguration": _object(
        {"name": _TEXT, "data_type": {"enum": ["TYPE_UINT8", "TYPE_FP32"]}, "dims": _list({"type": "integer"})}
    ),
    "ModelConfiguration": _object(
        {
            "name": _NAME,
            "platform": _TEXT,
            "backend": _TEXT,
            "max_batch_size": _COUNT,
            "input": _list(ref("schemas", "TensorConfiguration"), minItems=1, maxItems=1),
            "output": _list(ref("schemas", "TensorConfiguration"), minItems=1),
        }
    ),
    "RepositoryIndex": _list(
        _object({"name": _NAME, "version": {"const": "1"}, "state": {"const": "READY"}, "reason": _TEXT})
    ),
    "InferOutput": _object(
        {
            "name": {"enum": list(OUTPUTS)},
            "datatype": {"enum": ["FP32", "BYTES"]},
            "shape": _list({"type": "integer", "minimum": 0}, minItems=1),
        },
        {
            "parameters": _object({"binary_data_size": {"type": "integer", "minimum": 0}}),
            "data": {
                "type": "array",
                "items": {"type": ["number", "string"]},
                "description": "Flat, in row-major order; numbers of FP32, text of BYTES. Left out of binary data.",
            },
        },
    ),
    "InferResponse": _object(
        {
            "model_name": _NAME,
            "model_version": {"const": "1"},
            "parameters": _object(
                {
                    "members": _TEXT | {"description": "The points that answered, a list as a JSON string."},
                    "weights": _TEXT | {"description": "Their weights, a list as a JSON string."},
                    "temperature": _TEMPERATURE,
                },
                {
                    "aggregate": _AGGREGATE,
                    "missing": _TEXT
                    | {"description": "Members that did not answer: reasons by name, as a JSON string."},
                },
            ),
            "outputs": _list(ref("schemas", "InferOutput"), minItems=1),
        },
        {"id": _TEXT},
    ),
}

ANSWERS: dict[str, Json] = {**_PREDICTIONS, **_MODELS, **_PROTOCOL}
