"""The paper's subspaces: all endpoints are trained at once by Algorithm 1."""

from __future__ import annotations

from typing import Any

from trainer.methods.method import INTEGRAL_SETTINGS, TAIL_SETTINGS, Method

RECIPE: dict[str, Any] = {"samples": 2, "spread": None, "scaled_gradients": True, "learning_rate": 0.2}
"""What makes a midpoint at least as good as a standard network of the same length (docs/recipe.md)."""


def _subspace(geometry: str, summary: str, endpoints: int) -> Method:
    return Method(
        geometry,
        summary,
        ("midpoint", "endpoints"),
        geometry,
        endpoints,
        foreign_settings=(*INTEGRAL_SETTINGS, *TAIL_SETTINGS),
        recommended=RECIPE,
    )


LINE = _subspace("line", "a line between two endpoints", 2)
CURVE = _subspace("curve", "a quadratic Bezier curve with one bend", 3)
SIMPLEX = _subspace("simplex", "the convex hull of several endpoints", 3)
