"""Requests as bytes, and binary tensors back: JSON, forms, and the Open Inference Protocol. Does no I/O."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np

from subspace_serve.client.catalogue import InputFormat
from subspace_serve.client.errors import ClientError

_JSON = {"Content-Type": "application/json"}
_DATATYPES = {"uint8": "UINT8", "float32": "FP32"}
_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class HttpRequest:
    """A request, without the server's address; `repeatable` when it changes nothing on the server."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True


@dataclass(frozen=True)
class Options:
    """What a request asks for besides its images; None leaves it to the server.

    Raises `ClientError` for options that contradict each other.
    """

    model: str | None = None
    members: Sequence[str | float | Sequence[float]] | None = None
    weights: Sequence[float] | None = None
    aggregate: str | None = None
    alpha: float | Sequence[float] | None = None
    domain: str | None = None
    top_k: int = 5
    return_members: bool = False
    resize: bool = True
    coverage: float | None = None
    max_risk: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.top_k, int) or isinstance(self.top_k, bool) or self.top_k < 1:
            raise ClientError(f"top_k is {self.top_k!r}; give a whole number, 1 or more")
        for name, usual in (("coverage", 0.9), ("max_risk", 0.05)):
            value = getattr(self, name)
            number = _plain(value)  # NumPy's are numbers too
            if value is not None and not (isinstance(number, int | float) and 0 < number < 1):
                raise ClientError(f"{name} is {value!r}; give a number between 0 and 1, such as {usual}")
        names_models = self.model is not None or self.members is not None
        averages = self.weights is not None or self.aggregate is not None
        if self.alpha is not None and (names_models or averages):
            raise ClientError("alpha names one network; leave out model, members, weights and aggregate")
        if self.domain is not None and averages and not names_models:
            raise ClientError("a domain alone is one network; weights and aggregate need members")

    def given(self) -> dict[str, Any]:
        """Return those that are not left to the server, as JSON values: sequences and arrays become lists."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value if isinstance(value, str) else _plain(value) for name, value in values.items()}


def json_request(images: Iterable[np.ndarray | bytes], options: Options) -> HttpRequest:
    """Return a request to /predict: arrays (N, ...) become nested lists of pixels, files base64 text."""
    listed: list[Any] = []
    for image in images:
        if isinstance(image, bytes):
            listed.append(base64.b64encode(image).decode())
        else:
            listed.extend(image.tolist())
    body = json.dumps({"images": listed, **options.given()}, separators=(",", ":"), allow_nan=False)
    return HttpRequest("POST", "/predict", body.encode(), _JSON)


def form_request(files: Iterable[bytes], options: Options) -> HttpRequest:
    """Return a request to /predict_image, a form with the files' bytes."""
    boundary = secrets.token_hex(16)
    parts = []
    for name, value in options.given().items():
        text = json.dumps(value) if isinstance(value, bool) else str(value)
        if isinstance(value, list):  # one field, since the server takes so many and no more
            text = ",".join(map(str, value))
        parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode())
    for file in files:
        head = b'Content-Disposition: form-data; name="images"; filename="image"\r\n'
        parts.append(head + b"Content-Type: application/octet-stream\r\n\r\n" + file)
    delimiter = b"--" + boundary.encode()
    body = b"".join(b"%s\r\n%s\r\n" % (delimiter, part) for part in parts) + delimiter + b"--\r\n"
    return HttpRequest("POST", "/predict_image", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})


def file_request(files: Sequence[bytes], options: Options) -> HttpRequest:
    """Return a request with image files: a form, or JSON where a form would be misread.

    In a form an empty list is as if it were not given, and a place of one number is a number.
    """
    given = options.given()
    lists = [value for value in given.values() if isinstance(value, list)]
    of_one = isinstance(given.get("alpha"), list) and len(given["alpha"]) == 1
    if not all(lists) or of_one or any(map(_is_misread, given.get("members", ()))):
        return json_request(files, options)
    return form_request(files, options)


def _is_misread(member: Any) -> bool:
    """Return whether a form has another meaning for a member.

    There a name that reads as a number is a place, one with a comma is two, each number of a place is a member, and one
    beyond the ends may be a name.
    """
    if isinstance(member, str):
        return _is_number(member) or "," in member or member != member.strip()
    return isinstance(member, list) or not 0 <= member <= 1


def infer_request(
    images: np.ndarray, input: InputFormat, model: str, options: Options, outputs: Mapping[str, Mapping[str, Any]]
) -> HttpRequest:
    """Return a request of the Open Inference Protocol whose raw pixels (N, ...) follow its JSON.

    `outputs` are the tensors to ask for, all binary, with their further parameters.
    """
    data = images.tobytes()
    parameters: dict[str, Any] = {}
    for name in ("members", "weights", "alpha"):
        if (value := getattr(options, name)) is not None:
            parameters[name] = json.dumps(_plain(value), allow_nan=False)
    for name in ("aggregate", "domain", "coverage", "max_risk"):
        if (value := getattr(options, name)) is not None:
            parameters[name] = _plain(value)
    tensor = {
        "name": input.name,
        "shape": list(images.shape),
        "datatype": _DATATYPES[input.dtype],
        "parameters": {"binary_data_size": len(data)},
    }
    asked = [{"name": name, "parameters": {"binary_data": True, **more}} for name, more in outputs.items()]
    text = json.dumps({"parameters": parameters, "inputs": [tensor], "outputs": asked}, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/octet-stream", _LENGTH: str(len(text))}
    return HttpRequest("POST", f"/v2/models/{quote(model, safe='')}/infer", text + data, headers)


@dataclass(frozen=True)
class Inferred:
    """An answer of the Open Inference Protocol: FP32 tensors as arrays, BYTES as lists of rows of text."""

    model: str
    parameters: Mapping[str, Any]
    outputs: Mapping[str, Any]


def parse_inferred(body: bytes, headers: Mapping[str, str]) -> Inferred:
    """Split an answer into its tensors; the names in `headers` are in lower case.

    Raises `KeyError`, `TypeError`, `ValueError` or `IndexError` for anything else.
    """
    length = int(headers[_LENGTH.lower()])
    document = json.loads(body[:length])
    outputs = {}
    position = length
    for tensor in document["outputs"]:
        size = tensor["parameters"]["binary_data_size"]
        data = body[position : position + size]
        position += size
        if tensor["datatype"] == "BYTES":
            outputs[tensor["name"]] = _rows(_texts(data), tensor["shape"][1])
        else:
            outputs[tensor["name"]] = np.frombuffer(data, "<f4").reshape(tensor["shape"]).astype(np.float64)
    if position != len(body):
        raise ValueError(f"{len(body)} bytes, and its tensors have {position}")
    return Inferred(document["model_name"], document["parameters"], outputs)


def _texts(data: bytes) -> list[str]:
    """Split a BYTES tensor, in which every text follows its length (4 bytes, little-endian)."""
    texts = []
    position = 0
    while position < len(data):
        start = position + 4
        position = start + int.from_bytes(data[position:start], "little")
        texts.append(data[start:position].decode())
    return texts


def _rows(texts: Sequence[str], length: int) -> list[Sequence[str]]:
    return [texts[start : start + length] for start in range(0, len(texts), length)]


def _plain(value: Any) -> Any:
    """Return NumPy's numbers and arrays, and tuples, as JSON values."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
