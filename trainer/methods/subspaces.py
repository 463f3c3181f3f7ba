"""The paper's subspaces: all endpoints are trained at once by Algorithm 1."""

from __future__ import annotations

from typing import Any

from trainer.methods.method import INTEGRAL_SETTINGS, TAIL_SETTINGS, Method

SPREAD_EPOCHS = 10


def recipe(epochs: int) -> dict[str, Any]:
    """Return what makes a midpoint at least as good as a standard network after as many epochs (docs/recipe.md)."""
    spread = SPREAD_EPOCHS / max(SPREAD_EPOCHS, epochs)
    return {"samples": 2, "spread": spread, "scaled_gradients": True, "learning_rate": 0.2}


def _subspace(geometry: str, summary: str, endpoints: int) -> Method:
    return Method(
        geometry,
        summary,
        ("midpoint", "endpoints"),
        geometry,
        endpoints,
        foreign_settings=(*INTEGRAL_SETTINGS, *TAIL_SETTINGS),
        recommended=recipe,
    )


LINE = _subspace("line", "a line between two endpoints", 2)
CURVE = _subspace("curve", "a quadratic Bezier curve with one bend", 3)
SIMPLEX = _subspace("simplex", "the convex hull of several endpoints", 3)
