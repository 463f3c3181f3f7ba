"""The HTTP service on a bundle: `bentoml serve service:SubspaceService`. Imports no torch."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Define the BentoML service when it is asked for; its settings alone can be had without BentoML."""
    if name == "SubspaceService":
        from service.bento import SubspaceService

        return SubspaceService
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
