"""Refuses images that give no statistics of a domain, and warns of those that may give misleading ones."""

from __future__ import annotations

import math

import numpy as np

from subspace_serve.answers import entropy_of
from subspace_serve.errors import DataError

FEW = 16
_ALIKE = 0.5


def refuse_unfit(pixels: np.ndarray, data: str) -> None:
    """Refuse images from which no useful statistics can be computed.

    Args:
        pixels: uint8 (N, H, W, C).
        data: what they are, for the message.

    Raises:
        DataError: there are fewer than two images, all are the same, or each is of a single colour.
    """
    if len(pixels) < 2:
        raise DataError(f"{data} has {len(pixels)} images, and statistics take 2 or more; give 16 or more")
    flat = pixels.reshape(len(pixels), -1)
    if (flat.max(axis=1) == flat.min(axis=1)).all():
        raise DataError(f"every image of {data} is of one colour; a covered lens? Give images of the domain")
    if (flat == flat[0]).all():
        raise DataError(f"all {len(pixels)} images of {data} are the same one; give different images of the domain")


def warnings_of(pixels: np.ndarray, old: np.ndarray, new: np.ndarray) -> list[str]:
    """Return warnings about what may make the statistics of these images misleading.

    Args:
        pixels: uint8 (N, H, W, C).
        old, new: the probabilities before and after adapting to these images, (N, classes).
    """
    found = []
    count, classes = new.shape
    if count < FEW:
        found.append(f"{count} images are few: from {FEW} on statistics are worth more than they cost")
    flat = pixels.reshape(count, -1)
    distinct = len(np.unique(flat, axis=0))
    if distinct < (1 - _ALIKE) * count:
        found.append(f"only {distinct} of the {count} images differ; frames of one scene tell one scene's statistics")
    constant = int((flat.max(axis=1) == flat.min(axis=1)).sum())
    if constant:
        found.append(f"{constant} images are of one colour")
    # The effective number of classes among the answers: the exponential of the entropy of their mean.
    spread = max(math.exp(float(entropy_of(answers.mean(0)))) for answers in (old, new))
    if spread < classes / 3 and spread < count / 2:
        found.append(
            f"the answers are spread over about {spread:.1f} of {classes} classes: where the images hold some classes "
            "only, or others much more often than in training, their statistics answer the rest worse"
        )
    return found
