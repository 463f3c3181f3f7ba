"""One graph for any weights: the networks of a subspace on ONNX Runtime, and their BatchNorm statistics."""

from __future__ import annotations

from subspace_serve.network.network import Answering, Network
from subspace_serve.network.statistics import Statistics

__all__ = ["Answering", "Network", "Statistics"]
