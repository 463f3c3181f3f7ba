"""An ensemble of a bundle as one ONNX file, for runtimes that know nothing of bundles."""

from __future__ import annotations

import numpy as np
import onnx

from subspace_serve.bundle.fused import TOLERANCE, compare_fused
from subspace_serve.bundle.manifest import Input
from subspace_serve.bundle.predict import Prediction, combine
from subspace_serve.bundle.reduced import GraphParity
from subspace_serve.bundle.selection import Selection
from subspace_serve.bundle.session import open_session
from subspace_serve.bundle.writer import BundleWriter
from subspace_serve.errors import BundleError, ExportError
from subspace_serve.export.fused.graph import fuse
from subspace_serve.space.ensemble import Ensemble


def write_fused(
    bundle: BundleWriter,
    name: str,
    ensemble: Ensemble[str],
    temperature: float,
    *,
    input: Input,
    classes: int,
    images: np.ndarray,
) -> float:
    """Write an ensemble of the bundle as one graph, and compare it with its members' average.

    Args:
        bundle: that is being written; it holds the ensemble and its members.
        name, ensemble, temperature: of the ensemble.
        input: what the bundle's graphs take.
        classes: how many logits they give.
        images: to compare on, in that input's format.

    Returns:
        The greatest difference, relative as in `GraphParity`.

    Raises:
        ExportError: the members cannot be joined, or the graph answers otherwise than they do.
    """
    weights = np.asarray(ensemble.weights or (1.0,) * len(ensemble.members))
    selection = Selection(
        name,
        ensemble.members,
        tuple((weights / weights.sum()).tolist()),
        ensemble.aggregate,  # type: ignore[arg-type]
        temperature,
    )
    files = {member: bundle.file(member) for member in ensemble.members}
    sessions = [open_session(file, input, classes, device="cpu") for file in files.values()]

    def predict(batch: np.ndarray) -> Prediction:
        return combine(np.stack([session.logits(batch) for session in sessions]), selection)

    target = bundle.fused_file(name)
    try:
        onnx.save(fuse(name, files, selection, input=input, classes=classes), target)
        graph = open_session(target, input, classes, device="cpu")
        difference = compare_fused(name, graph, predict, selection, images, classes)
    except BundleError as error:
        raise ExportError(f"{error}; the bundle was not written") from error
    bundle.set_fused(name, GraphParity(max_relative_difference=difference, tolerance=TOLERANCE))
    return difference
