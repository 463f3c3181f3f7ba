"""From points of a subspace to verified, ordinary ONNX files."""

from __future__ import annotations

from subspace_serve.export.plan import BundlePlan, EnsemblePlan, Origin, PointPlan
from subspace_serve.export.points import export_bundle

__all__ = ["BundlePlan", "EnsemblePlan", "Origin", "PointPlan", "export_bundle"]
