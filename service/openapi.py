"""The OpenAPI document of the service."""

from __future__ import annotations

from typing import Any

from service.settings import Settings


def openapi_document(settings: Settings) -> dict[str, Any]:
    return {"openapi": "3.1.0"}
