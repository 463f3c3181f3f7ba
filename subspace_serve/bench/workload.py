"""The requests of a load: the same question over and over, with images of the server's size."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from subspace_serve.client.catalogue import Catalogue, InputFormat
from subspace_serve.client.conversation import built
from subspace_serve.client.errors import ClientError
from subspace_serve.client.inference import asked_model, asked_outputs
from subspace_serve.client.wire import HttpRequest, Options, form_request, infer_request, json_request
from subspace_serve.space.geometry import Geometry

Protocol = Literal["binary", "json", "image"]

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
    """Return requests with `batch` images each, for a load to cycle through.

    The images are `files` in turn, or random pixels of the server's input. The protocol `binary` sends raw pixels,
    `json` nested lists (or files in base64), `image` files in a form; it defaults to `image` with files and to `binary`
    without. Raises `ClientError` for what a protocol cannot express.
    """
    builds = _builds(catalogue, protocol, files, batch, np.random.default_rng(seed))
    return [built(partial(build, options)) for build in builds]


def places_workload(
    catalogue: Catalogue,
    options: Options,
    *,
    protocol: Protocol | None = None,
    files: Sequence[bytes] = (),
    batch: int = 1,
    seed: int = 0,
) -> Iterator[HttpRequest]:
    """Return an endless iterator of requests as `workload` makes them, each for its own random place of the subspace.

    Places are uniform, and each request is made when it is taken. Raises `ClientError` as `workload` does, and for a
    server without a subspace.
    """
    if catalogue.subspace is None:
        raise ClientError(
            "the server answers at its points only, so there is nothing to draw places from; serve a bundle that was "
            "exported without --points-only, and without --models or --alpha-memory 0, or give the place of a point"
        )
    geometry = Geometry(catalogue.subspace.geometry, catalogue.subspace.endpoints)
    generator = np.random.default_rng(seed)
    builds = _builds(catalogue, protocol, files, batch, generator)

    def requests() -> Iterator[HttpRequest]:
        for build in itertools.cycle(builds):
            (place,) = geometry.sample(generator, 1)
            yield built(partial(build, replace(options, alpha=place)))

    return requests()


def _builds(
    catalogue: Catalogue,
    protocol: Protocol | None,
    files: Sequence[bytes],
    batch: int,
    generator: np.random.Generator,
) -> list[Callable[[Options], HttpRequest]]:
    """Return functions that make a request from options, each with images of its own."""
    protocol = protocol or ("image" if files else "binary")
    if protocol == "binary":
        if files:
            raise ClientError("binary requests carry pixels; send image files by the protocol image or json")
        return [
            partial(_binary, catalogue, pixels)
            for pixels in (_pixels(catalogue.input, batch, generator) for _ in range(_DISTINCT))
        ]
    if protocol == "json" and not files:
        return [partial(json_request, [_pixels(catalogue.input, batch, generator)]) for _ in range(_DISTINCT)]
    if not files:
        files = [_png(catalogue.input, generator) for _ in range(_DISTINCT)]
    request = json_request if protocol == "json" else form_request
    # One request starts at each file, so that every file has its turn.
    return [
        partial(request, [files[(first + offset) % len(files)] for offset in range(batch)])
        for first in range(len(files))
    ]


def _binary(catalogue: Catalogue, pixels: np.ndarray, options: Options) -> HttpRequest:
    if options.domain is not None and options.domain not in catalogue.domains:
        raise ClientError(
            f"the server has no domain {options.domain!r}; its domains are {', '.join(catalogue.domains) or 'none'}"
        )
    asked = asked_model(options, catalogue)
    if asked is None:
        raise ClientError(
            "binary requests name members within a model, and a domain alone by its point; give the model, or use the "
            "protocol json"
        )
    model, ensemble = asked
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
