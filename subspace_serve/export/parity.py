"""The check that an exported graph answers as the network does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from subspace_serve.answers import softmax
from subspace_serve.bundle.manifest import Input, Parity, ReferenceName
from subspace_serve.bundle.session import open_session
from subspace_serve.errors import ExportError
from subspace_serve.network.statistics import Statistics
from subspace_serve.space.place import Alpha

BATCHES = (1, 2, 17)
TOLERANCE = 1e-4
"""Largest allowed difference of a logit or a probability, relative to the largest logit (or 1, if greater)."""


def allowed_difference(expected: np.ndarray) -> float:
    """Return the largest allowed difference of a logit or a probability from the expected logits (N, classes)."""
    return TOLERANCE * max(1.0, float(np.abs(expected).max()))


@dataclass(frozen=True)
class Reference:
    """What the exported graphs are compared with.

    Attributes:
        name: `torch`; `training` for the skeleton once it has reproduced the answers that training left; or `skeleton`
            for the skeleton where there are none.
        logits: gives torch's logits at a place, with its statistics, for uint8 pixels (N, H, W, C); None to use the
            skeleton's own.
    """

    name: ReferenceName = "skeleton"
    logits: Callable[[Alpha, Statistics, np.ndarray], np.ndarray] | None = None

    @property
    def text(self) -> str:
        """The reference as a message names it."""
        return "torch" if self.name == "torch" else "the run's skeleton"


THE_SKELETON = Reference()


def parity_images(pixels: np.ndarray) -> np.ndarray:
    """Return the images that graphs are compared on, uint8 (20, H, W, C); fewer are repeated, more cut off.

    Raises:
        ExportError: there are fewer than two.
    """
    if len(pixels) < 2:
        raise ExportError(f"export compares graphs on real images; {len(pixels)} is too few: give 2 or more")
    return np.resize(pixels, (sum(BATCHES), *pixels.shape[1:]))


def check_parity(
    file: Path, images: np.ndarray, expected: np.ndarray, *, input: Input, classes: int, reference: Reference
) -> Parity:
    """Compare a graph with expected answers on real images, in batches of 1, 2 and the rest: 17 of `parity_images`.

    Args:
        file: the exported graph.
        images: in the graph's own input format.
        expected: logits for these, float32 (N, classes).
        input: what the graph must take.
        classes: how many logits it must return.
        reference: what gave the logits.

    Raises:
        BundleError: the graph cannot be loaded or does not take that input.
        ExportError: a logit or a probability is not finite or differs by more than the tolerance, or the logits have
            another shape.
    """
    opened = open_session(file, input, classes, device="cpu")
    parts = np.split(images, np.cumsum(BATCHES)[:-1])
    answers = [opened.session.run(["logits", "probabilities"], {opened.input_name: part}) for part in parts]
    logits, probabilities = (np.concatenate(outputs) for outputs in zip(*answers, strict=True))
    if logits.shape != expected.shape:
        raise ExportError(f"the graph returns logits of shape {logits.shape}, {reference.text} {expected.shape}")
    if not all(np.isfinite(output).all() for output in (logits, probabilities, expected)):
        raise ExportError("the network or its exported graph answers with numbers that are not finite")
    tolerance = allowed_difference(expected)
    difference = max(float(np.abs(logits - expected).max()), float(np.abs(probabilities - softmax(expected)).max()))
    flips = int((logits.argmax(1) != expected.argmax(1)).sum())
    if difference > tolerance:
        raise ExportError(
            f"the exported graph does not answer as {reference.text} does: logits differ by up to {difference:.3g}, "
            f"allowed are {tolerance:.3g} ({flips} of {len(images)} answers change); the bundle was not written"
        )
    return Parity(
        provider=opened.provider,
        max_abs_diff=difference,
        top1_flips=flips,
        tolerance=tolerance,
        reference=None if reference.name == "torch" else reference.name,
    )
