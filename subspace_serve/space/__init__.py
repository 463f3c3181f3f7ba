"""Weight space: geometries, subspaces and their files, and what `--alpha` takes."""

from __future__ import annotations

from subspace_serve.space.architecture import Architecture
from subspace_serve.space.checkpoint import load_subspace, save_subspace
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace

__all__ = ["Architecture", "Geometry", "Subspace", "load_subspace", "save_subspace"]
