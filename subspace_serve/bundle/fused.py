"""Compares a graph that holds a whole model, members and average, with the answers of the service."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from subspace_serve.bundle.predict import Prediction
from subspace_serve.bundle.selection import Selection
from subspace_serve.bundle.session import PointSession
from subspace_serve.errors import BundleError

TOLERANCE = 1e-4
"""Largest difference from the service's answer, relative to the largest number of that output (or 1, if greater)."""


def output_shapes(selection: Selection, classes: int) -> dict[str, tuple[int, ...]]:
    """Return the outputs of such a graph and their shapes for one image."""
    shapes: dict[str, tuple[int, ...]] = {"probabilities": (classes,), "logits": (classes,), "entropy": ()}
    if selection.aggregate is not None:
        shapes |= {"mutual_information": (), "disagreement": ()}
        shapes |= {"member_probabilities": (len(selection.names), classes)}
    return shapes


def compare_fused(
    name: str,
    graph: PointSession,
    predict: Callable[[np.ndarray], Prediction],
    selection: Selection,
    images: np.ndarray,
    classes: int,
    *,
    tolerance: float = TOLERANCE,
) -> float:
    """Compare a graph with the service on images, one by one, all together, and twice over in one batch.

    Args:
        name: of the model, for messages.
        graph: the whole model as one graph.
        predict: gives the service's answers.
        selection: what answers.
        images: in the graph's input format.
        classes: of the networks.
        tolerance: the largest difference that is allowed, relative as in `TOLERANCE`.

    Returns:
        The greatest relative difference.

    Raises:
        BundleError: an output has another shape, or differs by more.
    """
    outputs = list(output_shapes(selection, classes))
    greatest = 0.0
    for batch in (*np.split(images, len(images)), images, np.concatenate([images, images])):
        prediction = predict(batch)
        found = graph.session.run(outputs, {graph.input_name: batch})
        for output, values in zip(outputs, found, strict=True):
            expected = getattr(prediction, output)
            if output == "member_probabilities":
                expected = expected.swapaxes(0, 1)  # (N, members, classes), as every output begins with the batch
            if values.shape != expected.shape:
                raise BundleError(
                    f"the graph of {name} gives {output} of shape {values.shape}, expected {expected.shape}; export "
                    "again"
                )
            difference = float(np.abs(values - expected).max()) / max(1.0, float(np.abs(expected).max()))
            if not difference <= tolerance:
                raise BundleError(
                    f"the graph of {name} does not answer as the service does: {output} differs by {difference:.3g}, "
                    f"allowed are {tolerance:.3g}; export again"
                )
            greatest = max(greatest, difference)
    return greatest
