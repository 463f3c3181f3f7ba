"""What torchvision and timm record of their published weights: image size, normalisation and labels."""

from __future__ import annotations

from dataclasses import dataclass

from subspace_serve.data import Preprocessing
from trainer.architectures import timm_models, torchvision_models


@dataclass(frozen=True)
class Record:
    """How a published network was trained; no weights are fetched to know it.

    Attributes:
        preprocessing: its normalisation.
        side: of its images, in pixels.
        labels: its classes, empty where they are not recorded.
    """

    preprocessing: Preprocessing
    side: int
    labels: tuple[str, ...] = ()


def record_of(name: str) -> Record | None:
    """Return what is recorded of an architecture's published weights; None where nothing is."""
    found = torchvision_models.recorded(name) or timm_models.recorded(name)
    if found is None:
        return None
    mean, std, side, labels = found
    return Record(Preprocessing(tuple(mean), tuple(std)), side, tuple(labels))
