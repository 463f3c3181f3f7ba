"""The document that describes the service, and what the bundle that it describes has."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

TOKEN = "a-token"
ENSEMBLES = ["endpoints", "leaning"]
PAIR = ["endpoint-0", "endpoint-1"]


def document_of(client: TestClient) -> dict[str, Any]:
    """Return the document that a service gives to whoever has the token."""
    return client.get("/docs.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
