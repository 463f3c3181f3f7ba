"""What can be trained: the paper's subspaces and its baselines (appendix D.4), a module for each.

Every result is a subspace on disk. Of a line the endpoints are trained; a baseline trains one network at a time and
keeps members, which span a simplex. What the result is meant to be used for is recorded with it.

Imports no torch, so that `--help` is instant.
"""

from __future__ import annotations

from trainer.methods.ensemble import ENSEMBLE
from trainer.methods.fge import FGE
from trainer.methods.integral import INTEGRAL
from trainer.methods.method import NEUTRAL, Method
from trainer.methods.snapshot import SNAPSHOT
from trainer.methods.standard import STANDARD
from trainer.methods.subspaces import CURVE, LINE, SIMPLEX
from trainer.methods.swa import SWA
from trainer.methods.swag import SWAG

__all__ = ["METHODS", "NEUTRAL", "Method"]

METHODS: dict[str, Method] = {
    method.name: method for method in (STANDARD, LINE, CURVE, SIMPLEX, INTEGRAL, ENSEMBLE, SWA, SWAG, SNAPSHOT, FGE)
}
"""Every method by name."""
