"""The same images in the form that each server takes, and how its answers are read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
import numpy as np
from PIL import Image

from benchmarks.servers import Running
from benchmarks.servers.model import Model
from subspace_serve.client.wire import HttpRequest

_BOUNDARY = "a-boundary-that-no-image-has"
_TOLERANCE = 1e-3


def post(path: str, body: bytes, content_type: str, **headers: str) -> HttpRequest:
    """Return a POST request."""
    return HttpRequest("POST", path, body, {"Content-Type": content_type, **headers})


def binary(pixels: np.ndarray, path: str) -> HttpRequest:
    """Return a request whose body is pixels (N, height, width, channels) as they lie in memory."""
    return post(path, pixels.tobytes(), "application/octet-stream")


def inference(pixels: np.ndarray, model: str, **parameters: float | str) -> HttpRequest:
    """Return an inference request of the Open Inference Protocol, binary both ways."""
    tensor = {
        "name": "image",
        "shape": pixels.shape,
        "datatype": "UINT8",
        "parameters": {"binary_data_size": pixels.nbytes},
    }
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    document = {"inputs": [tensor], "outputs": outputs} | ({"parameters": parameters} if parameters else {})
    head = json.dumps(document).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return post(f"/v2/models/{model}/infer", head + pixels.tobytes(), "application/octet-stream", **length)


def nested_lists(pixels: np.ndarray, **options: object) -> HttpRequest:
    """Return a request for /predict with pixels (N, height, width, channels) as JSON."""
    body = json.dumps({"images": pixels.tolist(), **options}).encode()
    return post("/predict", body, "application/json")


def upload(file: bytes, **fields: str) -> HttpRequest:
    """Return a request for /predict_image with an image file in a multipart form."""
    parts = [(f'Content-Disposition: form-data; name="{name}"', value.encode()) for name, value in fields.items()] + [
        ('Content-Disposition: form-data; name="images"; filename="image"\r\nContent-Type: image/png', file)
    ]
    body = b"".join(f"--{_BOUNDARY}\r\n{head}\r\n\r\n".encode() + value + b"\r\n" for head, value in parts)
    content_type = f"multipart/form-data; boundary={_BOUNDARY}"
    return post("/predict_image", body + f"--{_BOUNDARY}--\r\n".encode(), content_type)


def png(pixels: np.ndarray) -> bytes:
    """Return one image's pixels (height, width, channels) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Candidate:
    """A server, a request, and how to read from its answer the first image's top class and its probability."""

    server: Running
    request: HttpRequest
    read: Callable[[httpx.Response], tuple[int, float]]

    def check(self, bundle: Path, pixels: np.ndarray) -> None:
        """Ask once, and raise `click.ClickException` unless the answer is the model's own for these pixels."""
        with self.server.client() as client:
            response = client.post(self.request.path, content=self.request.body, headers=self.request.headers)
        own = f"{self.server.server.name} {self.request.path}"
        if response.status_code != 200:
            raise click.ClickException(f"{own} answers {response.status_code}: {response.text[:300]}")
        index, probability = self.read(response)
        expected, certainty = _largest(Model(bundle).probabilities(pixels)[0])
        if index != expected or abs(probability - certainty) > _TOLERANCE:
            raise click.ClickException(
                f"{own} answers class {index} with {probability:g}; expected {expected} with {certainty:g}"
            )


def read_bytes(response: httpx.Response) -> tuple[int, float]:
    """Read float32 probabilities, which are the whole body or follow its JSON."""
    start = int(response.headers.get("inference-header-content-length", 0))
    return _largest(np.frombuffer(response.content[start:], np.float32))


def read_probabilities(response: httpx.Response) -> tuple[int, float]:
    """Read probabilities in JSON: an array (N, classes), alone or under its name."""
    document = response.json()
    return _largest(np.array(document["probabilities"] if isinstance(document, dict) else document)[0])


def read_labels(response: httpx.Response) -> tuple[int, float]:
    """Read the first label of this project's own answers."""
    label = response.json()["predictions"][0]["labels"][0]
    return label["index"], label["probability"]


def _largest(probabilities: np.ndarray) -> tuple[int, float]:
    return int(probabilities.argmax()), float(probabilities.max())
