"""The client's way into a service of this process, and what it sent."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
from starlette.testclient import TestClient

URL = "http://service.test"


def through(service: TestClient, seen: list[httpx.Request] | None = None) -> httpx.MockTransport:
    """Return a transport into a service of this process."""

    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        response = service.request(
            request.method, request.url.raw_path.decode(), content=request.content, headers=request.headers
        )
        return httpx.Response(response.status_code, headers=response.headers, content=response.content)

    return httpx.MockTransport(handle)


def asked(seen: list[httpx.Request]) -> list[str]:
    """Return the paths of the requests."""
    return [request.url.path for request in seen]


def assert_close(own: Any, other: Any) -> None:
    """Compare two predictions of the client: the same labels, and almost the same numbers."""
    assert [(one.label, one.index) for one in own.labels] == [(one.label, one.index) for one in other.labels]
    np.testing.assert_allclose(
        [one.probability for one in own.labels], [one.probability for one in other.labels], atol=1e-6
    )
    np.testing.assert_allclose(own.entropy, other.entropy, atol=1e-6)
