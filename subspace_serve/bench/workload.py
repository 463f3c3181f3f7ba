"""The requests of a load: the same question again and again, with images of the server's size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from subspace_serve.client.catalogue import Catalogue, InputFormat
from subspace_serve.client.errors import ClientError
from subspace_serve.client.inference import asked_model, asked_outputs
from subspace_serve.client.wire import HttpRequest, Options, form_request, infer_request, json_request

Protocol = Literal["binary", "json", "image"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

_DISTINCT = 16
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def workload(
    catalogue: Catalogue,
    options: Options,
    *,
    protocol: Protocol | None = None,
    files: Sequence[bytes] = (),
    batch: int = 1,
    seed: int = 0,
) -> list[HttpRequest]:
    """Return requests with `batch` images each, for a load to take in turn.

    The images are `files` in turn, or random pixels of the server's input. The protocol `binary` sends pixels as they
    are, `json` nested lists (or files in base64), `image` files in a form; unless given, it is `image` with files and
    `binary` without. Raises `ClientError` for what a protocol cannot say.
    """
    protocol = protocol or ("image" if files else "binary")
    generator = np.random.default_rng(seed)
    if protocol == "binary":
        if files:
            raise ClientError("binary requests carry pixels; send image files by the protocol image or json")
        if options.members is not None and options.model is None:
            raise ClientError("binary requests name members within a model; give the model, or use the protocol json")
        return [_binary(catalogue, options, _pixels(catalogue.input, batch, generator)) for _ in range(_DISTINCT)]
    if protocol == "json" and not files:
        return [json_request([_pixels(catalogue.input, batch, generator)], options) for _ in range(_DISTINCT)]
    if not files:
        files = [_png(catalogue.input, generator) for _ in range(_DISTINCT)]
    build = json_request if protocol == "json" else form_request
    # From each file on, the next ones: every request has `batch`, and every file its turn.
    return [
        build([files[(first + offset) % len(files)] for offset in range(batch)], options) for first in range(len(files))
    ]


def _binary(catalogue: Catalogue, options: Options, pixels: np.ndarray) -> HttpRequest:
    model, ensemble = asked_model(options, catalogue)
    return infer_request(pixels, catalogue.input, model, options, asked_outputs(options, ensemble))


def _pixels(input: InputFormat, count: int, generator: np.random.Generator) -> np.ndarray:
    shape = (count, *input.shape)
    if input.dtype == "uint8":
        return generator.integers(0, 256, shape, dtype=np.uint8)
    return generator.random(shape, dtype=np.float32)


def _png(input: InputFormat, generator: np.random.Generator) -> bytes:
    from PIL import Image

    if input.channels not in _MODES:
        raise ClientError(f"a model of {input.channels} channels takes no image files; use the protocol binary")
    pixels = generator.integers(0, 256, (input.height, input.width, input.channels), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "PNG")
    return buffer.getvalue()
