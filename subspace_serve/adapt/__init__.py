"""Adapting a bundle to where it runs: BatchNorm statistics from a domain's images and, given labels, its own place."""

from __future__ import annotations

from subspace_serve.adapt.adapting import Adaptation, Labels, adapt
from subspace_serve.adapt.writing import write_adaptation

__all__ = ["Adaptation", "Labels", "adapt", "write_adaptation"]
