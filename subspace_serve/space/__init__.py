"""Weight space: geometries, subspaces and their files, and what `--alpha` takes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subspace_serve.space.architecture import Architecture
    from subspace_serve.space.checkpoint import load_subspace, save_subspace
    from subspace_serve.space.geometry import Geometry
    from subspace_serve.space.subspace import Subspace

__all__ = ["Architecture", "Geometry", "Subspace", "load_subspace", "save_subspace"]

_HOMES = {"Architecture": "architecture", "Geometry": "geometry", "Subspace": "subspace"}


def __getattr__(name: str) -> Any:
    # Imported on first use: the command line's help needs the syntax of --alpha but not NumPy.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'checkpoint')}"), name)
