"""The service on a bundle, over HTTP and gRPC: `bentoml serve service:SubspaceService`. Imports no torch."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Define the BentoML service on first use, so that the settings can be imported without BentoML."""
    if name == "SubspaceService":
        from service.bento import SubspaceService

        return SubspaceService
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
