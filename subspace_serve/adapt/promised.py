"""What a domain's own labels let a bundle promise of its point."""

from __future__ import annotations

import numpy as np

from subspace_serve.answers import apply_temperature
from subspace_serve.bundle.drift import DriftReference
from subspace_serve.data import Images
from subspace_serve.data.domains import Domain
from subspace_serve.data.drawing import carve
from subspace_serve.drift import values_of
from subspace_serve.export.answers import Record, abstention_record, intensities_of, sets_record
from subspace_serve.measure.conformal import SetsData
from subspace_serve.prediction_sets import Method


def promised_by(
    domain: Domain,
    probabilities: np.ndarray,
    *,
    of_statistics: Images | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    method: Method = "lac",
) -> Record:
    """Calibrate all three on the half of a domain that neither chose its place nor fitted its temperature.

    What is in that half and also gave the point its statistics is left out; nothing is promised where no image is left.

    Args:
        domain: labelled images.
        probabilities: the point's answers to all of them, without a temperature, shape (N, classes).
        of_statistics: images that gave the point its BatchNorm statistics; None where none of the domain did.
        temperature: of its answers.
        seed: of the division into halves, as `select` and `fit_and_report` have it.
        method: the score of a label in a prediction set.
    """
    images = domain.images
    reporting, _ = carve(images.labels, len(images) // 2, seed)
    if of_statistics is not None:
        reporting = reporting[~images.subset(reporting).among(of_statistics)]
    if not len(reporting):
        return Record()
    data = SetsData(images.subset(reporting), f"{domain.description}, those that chose nothing", method, seed)
    own = apply_temperature(probabilities[reporting], temperature)
    drift = DriftReference.of(values_of(own, None, intensities_of(data.images)), data.name)
    return Record(sets=sets_record(own, data), abstention=abstention_record(own, data), drift=drift)
