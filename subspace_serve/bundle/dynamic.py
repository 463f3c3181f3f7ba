"""Compares the graph with alpha as an input with the networks that the service builds at the same places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from subspace_serve.errors import BundleError
from subspace_serve.network.dynamic import ALPHA
from subspace_serve.network.served import PROBABILITIES
from subspace_serve.network.skeleton import IMAGE, LOGITS
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha, place_text

TOLERANCE = 1e-4
_DRAWN = 4
_OUTPUTS = [LOGITS, PROBABILITIES]


def compared_places(geometry: Geometry) -> list[Alpha]:
    """Return the places at which the graph is compared: the ends, the midpoint, and some between knots."""
    if not geometry.barycentric:
        return [*geometry.ends, geometry.midpoint, 0.125, 0.333, 0.777]
    drawn = geometry.sample(np.random.default_rng(0), _DRAWN)
    return [*geometry.ends, geometry.midpoint, *(tuple(place) for place in drawn.tolist())]


def compare_dynamic(
    session: Any,
    build: Callable[[Alpha], Any],
    images: np.ndarray,
    places: Sequence[Alpha],
    *,
    tolerance: float = TOLERANCE,
) -> float:
    """Compare the graph's answers with the service's; return the greatest relative difference.

    Args:
        session: of the graph.
        build: gives ONNX Runtime's session of the network at a place, as the service builds it.
        images: in the graph's input format.
        places: where to compare.
        tolerance: of a logit or a probability, relative to the largest, or 1 if that is greater.

    Raises:
        BundleError: an answer differs by more.
    """
    greatest = 0.0
    for alpha in places:
        found = session.run(_OUTPUTS, {IMAGE: images, ALPHA: np.atleast_1d(np.asarray(alpha, np.float32))})
        expected = build(alpha).run(_OUTPUTS, {IMAGE: images})
        for values, wanted in zip(found, expected, strict=True):
            difference = float(np.abs(values - wanted).max()) / max(1.0, float(np.abs(wanted).max()))
            if not difference <= tolerance:
                raise BundleError(
                    f"the graph with alpha as an input does not answer as the service does: at alpha "
                    f"{place_text(alpha)} they differ by {difference:.3g}, allowed are {tolerance:.3g}; export again"
                )
            greatest = max(greatest, difference)
    return greatest
