"""The OpenAPI document of the service. It does not depend on the bundle, so it can be read before one is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.openapi.document import paths_and_components
from service.operations import Operation
from service.settings import Settings
from subspace_serve import __version__

_DESCRIPTION = """\
Classifies images with points of a neural network subspace: one point alone, or several as an ensemble that says how far
its members differ.

**In short.** `GET /models` says which models there are, which labels, and what pixels they take. Send an image file to
`POST /predict_image`, or pixels to `POST /predict`. Clients of the Open Inference Protocol (KServe, Triton) find the
same models under `/v2`.

**Who answers.** No option: the default model. `model`: a point or an ensemble by its name. `members` (with `weights`,
`aggregate`): an ensemble of your own. `alpha`: the network at any place of the subspace.

**How sure it is.** Entropies are in nats. For ensembles `mutual_information` is the part of the entropy that comes from
the members' differing, and `disagreement`, from 0 to 1, is their mean total-variation distance to their mixture.

**Errors** are `{"error": "what was wrong, what was found, what is expected"}`. A client's mistake is a 4xx. 429 and 503
pass: wait as long as the header Retry-After says, in seconds, and ask again. Unknown fields are refused, never ignored.

**Limits of this server.** %s

Every answer has the header X-Request-ID. Routes that take GET take HEAD too.
"""

_TAGS = {
    "prediction": "Images in, labels with probabilities and uncertainty out.",
    "open inference protocol": "Version 2, as KServe and Triton speak it, with binary tensors and classification.",
    "models": "What the server answers with.",
    "operation": "For probes, scrapes and operators.",
}


def openapi_document(settings: Settings, operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a service with these settings; it does not contain the token."""
    paths, components = paths_and_components(operations, settings)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "subspace-serve",
            "version": __version__,
            "summary": "Classification with points and ensembles of a neural network subspace.",
            "description": _DESCRIPTION % _limits(settings),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # Relative to this document, wherever a proxy has put it.
        "servers": [{"url": "."}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": components,
    }
    if settings.token is not None:
        document["security"] = [{"bearer": []}]
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "The token that the server was started with."}
        }
    return document


def _limits(settings: Settings) -> str:
    return (
        f"A body: {settings.max_body} bytes. Images of one request: {settings.max_images}. Pixels of one image file: "
        f"{settings.max_pixels}. Time from a request's arrival to its answer: {settings.deadline:g} s."
    )
