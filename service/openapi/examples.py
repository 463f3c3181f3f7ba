"""The document's examples. The models named are those of a line's bundle that was exported without options."""

from __future__ import annotations

from typing import Any

from service.operations import BINARY, JSON

_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mNgYGBwcHBgaGho+P//PwAUSAU+ESHJ0wAAAABJRU5ErkJggg=="

PREDICT_REQUESTS: dict[str, Any] = {
    "file": {"summary": "An image file for the default model", "value": {"images": [_PNG]}},
    "pixels": {
        "summary": "Pixels of an image of 2x2 in RGB; yours must be of the size that GET /models says",
        "value": {"images": [[[[0, 0, 0], [64, 64, 64]], [[128, 128, 128], [255, 255, 255]]]], "top_k": 1},
    },
    "ensemble": {
        "summary": "An ensemble, and what each of its members answers",
        "value": {"images": [_PNG], "model": "endpoints", "return_members": True},
    },
    "own ensemble": {
        "summary": "Two points, one of which counts three times as much",
        "value": {
            "images": [_PNG],
            "members": ["midpoint", "endpoint-0"],
            "weights": [3, 1],
            "aggregate": "logits",
        },
    },
    "domain": {
        "summary": "Any place, with a domain's statistics",
        "value": {"images": [_PNG], "alpha": 0.3, "domain": "fog"},
    },
    "set": {
        "summary": "With a set of labels that holds the right one with a probability of 90 %, and abstaining so that "
        "at most 5 % of the other answers are wrong",
        "value": {"images": [_PNG], "coverage": 0.9, "max_risk": 0.05},
    },
    "alpha": {"summary": "A place on a line, be it a point or not", "value": {"images": [_PNG], "alpha": 0.5}},
}

PREDICT_ANSWERS: dict[str, Any] = {
    "point": {
        "summary": "One point",
        "value": {
            "model": "midpoint",
            "alpha": 0.5,
            "statistics": "training",
            "members": ["midpoint"],
            "weights": [1.0],
            "aggregate": None,
            "temperature": 1.0,
            "predictions": [
                {
                    "labels": [
                        {"label": "cat", "index": 3, "probability": 0.92},
                        {"label": "dog", "index": 5, "probability": 0.06},
                    ],
                    "entropy": 0.31,
                }
            ],
        },
    },
    "set": {
        "summary": "With `coverage` and `max_risk`: a set that holds the right label, of an answer that abstains",
        "value": {
            "model": "midpoint",
            "alpha": 0.5,
            "statistics": "training",
            "members": ["midpoint"],
            "weights": [1.0],
            "aggregate": None,
            "temperature": 1.0,
            "predictions": [
                {
                    "labels": [{"label": "cat", "index": 3, "probability": 0.58}],
                    "entropy": 0.92,
                    "set": [
                        {"label": "cat", "index": 3, "probability": 0.58},
                        {"label": "dog", "index": 5, "probability": 0.31},
                    ],
                    "abstained": True,
                }
            ],
        },
    },
    "ensemble": {
        "summary": "An ensemble, of which a member failed and the quorum answered",
        "value": {
            "model": "endpoints",
            "alpha": None,
            "statistics": "training",
            "members": ["endpoint-0"],
            "weights": [1.0],
            "aggregate": "probabilities",
            "temperature": 1.0,
            "missing": {"endpoint-1": "missed the deadline"},
            "predictions": [
                {
                    "labels": [{"label": "cat", "index": 3, "probability": 0.9}],
                    "entropy": 0.4,
                    "mutual_information": 0.0,
                    "disagreement": 0.0,
                }
            ],
        },
    },
}

_INPUT = {"name": "image", "shape": [1, 2, 2, 3], "datatype": "UINT8"}

INFER_REQUESTS: dict[str, Any] = {
    "point": {
        "summary": "One image of 2x2 in RGB, flat",
        "value": {"inputs": [{**_INPUT, "data": [0, 0, 0, 64, 64, 64, 128, 128, 128, 255, 255, 255]}]},
    },
    "classes": {
        "summary": "Members of an ensemble, and the three most probable classes",
        "value": {
            "id": "42",
            "parameters": {"members": '["endpoint-0"]', "aggregate": "logits"},
            "inputs": [{**_INPUT, "data": [0, 0, 0, 64, 64, 64, 128, 128, 128, 255, 255, 255]}],
            "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}, {"name": "entropy"}],
        },
    },
}

BINARY_INFER_REQUEST: dict[str, Any] = {
    "binary": {
        "summary": "With the header Inference-Header-Content-Length: 117; 12 bytes of pixels follow the JSON",
        "value": '{"inputs":[{"name":"image","shape":[1,2,2,3],"datatype":"UINT8",'
        '"parameters":{"binary_data_size":12}}]}<12 bytes>',
    }
}

INFER_ANSWER: dict[str, Any] = {
    "model_name": "midpoint",
    "model_version": "1",
    "id": "42",
    "parameters": {"members": '["midpoint"]', "weights": "[1.0]", "temperature": 1.0},
    "outputs": [
        {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.92, 0.08]},
        {"name": "entropy", "datatype": "FP32", "shape": [1], "data": [0.28]},
    ],
}

MODELS: dict[str, Any] = {
    "default": "midpoint",
    "bundle": {"sha256": "3f" * 32},
    "models": [
        {
            "name": "midpoint",
            "type": "point",
            "alpha": 0.5,
            "statistics": "training",
            "coefficients": [0.5, 0.5],
            "metrics": {"accuracy": 0.93},
            "temperature": 1.0,
        },
        {
            "name": "endpoints",
            "type": "ensemble",
            "members": ["endpoint-0", "endpoint-1"],
            "weights": [1.0, 1.0],
            "aggregate": "probabilities",
            "temperature": 1.0,
            "metrics": {},
        },
    ],
    "labels": ["cat", "dog"],
    "input": {"name": "image", "dtype": "uint8", "layout": "NHWC", "height": 32, "width": 32, "channels": 3},
    "subspace": {
        "geometry": "line",
        "endpoints": 2,
        "alpha": "a number from 0 to 1",
        "step": 0.01,
        "statistics": ["training", "fog"],
    },
    "domains": [{"name": "fog", "statistics": "fog", "alpha": 0.4, "temperature": 1.2}],
}

DRIFT: dict[str, Any] = {
    "model": "midpoint",
    "domain": None,
    "bundle": {"sha256": "3f" * 32},
    "images": 12_000,
    "calibration": {"data": "cifar10:validation", "images": 5000},
    "statistics": [
        {"name": "max_probability", "log10_wealth": 0.7, "log10_highest": 0.9},
        {"name": "mean_intensity", "log10_wealth": 2.1, "log10_highest": 2.1},
    ],
    "log10_wealth": 2.1,
    "p_value": 0.008,
    "alarm": True,
    "since": {"image": 11_950, "time": "2026-11-28T09:30:00Z"},
    "advice": "the images are no longer answered as those before them; look at the images and where they come from",
}

EXAMPLES: dict[tuple[str, str, str], dict[str, Any]] = {
    ("predict", "body", JSON): {"examples": PREDICT_REQUESTS},
    ("predict", "answer", JSON): {"examples": PREDICT_ANSWERS},
    ("predict_image", "answer", JSON): {"examples": PREDICT_ANSWERS},
    ("protocol_infer", "body", JSON): {"examples": INFER_REQUESTS},
    ("protocol_infer", "body", BINARY): {"examples": BINARY_INFER_REQUEST},
    ("protocol_infer", "answer", JSON): {"example": INFER_ANSWER},
    ("protocol_live", "answer", JSON): {"example": {"live": True}},
    ("protocol_ready", "answer", JSON): {"example": {"ready": True}},
    ("models", "answer", JSON): {"example": MODELS},
    ("drift", "answer", JSON): {"example": DRIFT},
    ("reset_drift", "answer", JSON): {
        "example": DRIFT
        | {"images": 0, "log10_wealth": -0.3, "p_value": 1.0, "alarm": False, "since": None}
        | {"statistics": [entry | {"log10_wealth": -0.3, "log10_highest": -0.3} for entry in DRIFT["statistics"]]}
        | {"advice": "nothing: there is no evidence of a change"}
    },
}
"""By operation, `body` or `answer`, and media type."""
