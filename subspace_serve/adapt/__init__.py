"""Adapting a bundle to where it runs: statistics of a domain from its images, and with labels a place of its own."""

from __future__ import annotations

from subspace_serve.adapt.adapting import Adaptation, Labels, adapt
from subspace_serve.adapt.writing import write_adaptation

__all__ = ["Adaptation", "Labels", "adapt", "write_adaptation"]
