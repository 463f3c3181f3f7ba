"""Measuring networks: metrics, temperature, evaluation along a subspace, loss landscapes."""

from __future__ import annotations

from subspace_serve.measure.evaluation import evaluate

__all__ = ["evaluate"]
