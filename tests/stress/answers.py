"""Good requests to every endpoint, each with the answer that numpy computes."""

from __future__ import annotations

import base64
import json

import numpy as np
from image_files import png
from service_client import probabilities_of

from stress.bundles import point_logits
from stress.cases import Case
from stress.wire import Reply, chunked, document, form, request

TOLERANCE = 2e-5  # of probabilities; the graphs compute in float32

_PAIR = {"members": ["first", "second"], "weights": [0.5, 0.5], "aggregate": "probabilities"}
_ALL = {"members": ["first", "second", "third"], "weights": [0.5, 0.25, 0.25], "aggregate": "logits"}
_CHOSEN = {"members": ["third", "second"], "weights": [0.75, 0.25], "aggregate": "logits"}


def probabilities(images: np.ndarray, members: list[str], weights: list[float], aggregate: str, generation: int = 0):
    """Return (N, classes) probabilities of an ensemble."""
    logits = np.stack([point_logits(name, images, generation) for name in members])
    if aggregate == "logits":
        return _softmax(np.tensordot(weights, logits, 1))
    return np.tensordot(weights, _softmax(logits), 1)


def good_cases(images: np.ndarray) -> list[Case]:
    """Return a request of every kind for some images (N, height, width, channels), and a few that are rarely sent."""
    pixels, shape = images.tolist(), list(images.shape)
    single = {name: probabilities(images, [name], [1.0], "logits") for name in ("first", "second", "third")}
    pair, everyone = probabilities(images, **_PAIR), probabilities(images, **_ALL)
    chosen = probabilities(images, **_CHOSEN)
    files = [png(image) for image in images]
    upload = [("images", "image.png", file) for file in files]
    body = json.dumps({"images": pixels, "model": "second"}).encode()
    tensor = {"name": "image", "datatype": "UINT8", "shape": shape}
    flat = {"inputs": [tensor | {"data": images.ravel().tolist()}]}
    parameters = {name: json.dumps(_CHOSEN[name]) for name in ("members", "weights")} | {"aggregate": "logits"}
    raw_outputs = [{"name": name, "parameters": {"binary_data": True}} for name in ("entropy", "probabilities")]
    head = {"inputs": [tensor | {"parameters": {"binary_data_size": images.size}}], "outputs": raw_outputs}
    text = json.dumps(head).encode()
    expect, upgrade = {"expect": "100-continue"}, {"connection": "Upgrade", "upgrade": "h2c"}
    fields = [("members", None, b"third,second"), ("weights", None, b"3,1"), ("aggregate", None, b"logits")]
    return [
        _predict("point", document("/predict", {"images": pixels, "model": "first"}), single["first"]),
        _predict("default", document("/predict", {"images": pixels}), single["first"]),
        _predict("ensemble", document("/predict", {"images": pixels, "model": "pair", "return_members": True}), pair),
        _predict("logits", document("/predict", {"images": pixels, "model": "all"}), everyone),
        _predict("members", document("/predict", {"images": pixels, **_CHOSEN}), chosen),
        _predict("alpha", document("/predict", {"images": pixels, "alpha": 0.25}), single["third"]),
        _predict("base64", document("/predict", {"images": [_text(file) for file in files]}), single["first"]),
        _predict("form", request("/predict_image", *form(*upload)), single["first"]),
        _predict("form with members", request("/predict_image", *form(*fields, *upload)), chosen),
        _predict("chunks", chunked("/predict", body[:100], body[100:101], body[101:]), single["second"]),
        _predict("expect", request("/predict", body, headers=expect), single["second"]),
        _predict("upgrade", request("/predict", body, headers=upgrade), single["second"]),
        _predict("absolute address", request("http://stress/predict", body), single["second"]),
        _infer("flat", document("/v2/models/third/infer", flat), single["third"]),
        _infer("nested", document("/v2/models/pair/infer", {"inputs": [tensor | {"data": pixels}]}), pair),
        _infer("parameters", document("/v2/models/all/infer", flat | {"parameters": parameters}), chosen),
        _binary("binary", _with_binary("/v2/models/all/versions/1/infer", text, images.tobytes()), everyone),
        Case("models", request("/models", method="GET"), check=_lists_models),
        Case("metadata", request("/v2/models/pair", method="GET"), check=_is_metadata),
        Case("ready", request("/readyz", method="GET")),
        Case("metrics", request("/metrics", method="GET")),
    ]  # fmt: skip


def answered(reply: Reply) -> np.ndarray:
    """Return the (N, classes) probabilities of /predict in the order of the labels."""
    return probabilities_of(reply.json())


def difference(found: np.ndarray, expected: np.ndarray) -> str | None:
    """Say how an answer differs, None where it does not."""
    if found.shape != expected.shape:
        return f"shape {found.shape}, expected {expected.shape}"
    greatest = float(np.abs(found - expected).max())
    return None if greatest <= TOLERANCE else f"differs by {greatest:.3g}"


def _predict(name: str, data: bytes, expected: np.ndarray) -> Case:
    return Case(name, data, check=lambda reply: difference(answered(reply), expected))


def _infer(name: str, data: bytes, expected: np.ndarray) -> Case:
    def check(reply: Reply) -> str | None:
        outputs = {output["name"]: output for output in reply.json()["outputs"]}
        return _agree({name: np.reshape(outputs[name]["data"], outputs[name]["shape"]) for name in outputs}, expected)

    return Case(name, data, check=check)


def _binary(name: str, data: bytes, expected: np.ndarray) -> Case:
    def check(reply: Reply) -> str | None:
        length = int(reply.headers["inference-header-content-length"])
        arrays, start = {}, length
        for output in json.loads(reply.body[:length])["outputs"]:
            end = start + output["parameters"]["binary_data_size"]
            arrays[output["name"]] = np.frombuffer(reply.body[start:end], "<f4").reshape(output["shape"])
            start = end
        return _agree(arrays, expected) if start == len(reply.body) else "bytes are left over"

    return Case(name, data, check=check)


def _agree(outputs: dict[str, np.ndarray], expected: np.ndarray) -> str | None:
    entropy = -(expected * np.log(expected)).sum(axis=1)
    return difference(outputs["probabilities"], expected) or difference(outputs["entropy"], entropy)


def _with_binary(path: str, text: bytes, binary: bytes) -> bytes:
    headers = {"inference-header-content-length": str(len(text))}
    return request(path, text + binary, "application/octet-stream", headers=headers)


def _lists_models(reply: Reply) -> str | None:
    names = [model["name"] for model in reply.json()["models"]]
    return None if names == ["first", "second", "third", "pair", "all"] else f"models {names}"


def _is_metadata(reply: Reply) -> str | None:
    return None if reply.json()["inputs"][0]["shape"] == [-1, 4, 5, 3] else "another shape"


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
