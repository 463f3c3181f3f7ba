"""What a bundle records about its models' answers on labelled images: temperature, metrics, promises and drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from subspace_serve.abstention import DELTA, levels_of
from subspace_serve.answers import Answer, ensemble_answer
from subspace_serve.bundle.abstention import Abstention, AbstentionLevel, RiskMeasured
from subspace_serve.bundle.drift import DriftReference
from subspace_serve.bundle.manifest import Reliability, TemperatureFit
from subspace_serve.bundle.prediction_sets import CoverageMeasured, Sets
from subspace_serve.data import Images
from subspace_serve.drift import mean_intensities, values_of
from subspace_serve.export.plan import EnsemblePlan, PointPlan
from subspace_serve.measure.abstention import risk_coverage
from subspace_serve.measure.conformal import SetsData, calibrate, measure_coverage
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.measure.networks import check_labels
from subspace_serve.measure.temperature import FittedTemperature, TemperatureData, check_divisible, fit_and_report

_Data = TemperatureData | SetsData | None
"""The images that logits are of; None: the evaluation's."""
_BATCH = 256


@dataclass(frozen=True)
class Record:
    """What the manifest records about a point's or an ensemble's answers, which are those at the temperature."""

    metrics: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    temperature_fit: TemperatureFit | None = None
    sets: Sets | None = None
    abstention: Abstention | None = None
    drift: DriftReference | None = None

    def describe(self) -> str:
        """Return a line about the temperature, empty when none was fitted."""
        fit = self.temperature_fit
        if fit is None:
            return ""
        line = f"temperature {self.temperature:.3f}, fitted on {fit.count} images of {fit.data}"
        if fit.at_bound:
            line += (
                "; they leave it open (no mistake among them, or no more right than by chance), "
                "so it is chosen on the side of doubt: give more images"
            )
        return line


class Answers:
    """Points' logits on labelled images: temperatures are fitted, metrics measured and sets calibrated on them."""

    def __init__(self, models: Sequence[PointPlan | EnsemblePlan], evaluation: Images | None, classes: int) -> None:
        """Check the images; run nothing yet.

        Args:
            models: the points and ensembles, with the images for their temperatures and their sets.
            evaluation: images on which metrics are measured; None measures none.
            classes: of the networks.

        Raises:
            DataError: the images for a temperature cannot be divided, or a label is not one of the networks' classes.
        """
        self._models = {model.name: model for model in models}
        self._evaluation = evaluation
        self.classes = classes
        self._logits: dict[tuple[str, _Data], np.ndarray] = {}
        self._intensities: dict[SetsData, np.ndarray] = {}
        if evaluation is not None:
            check_labels(evaluation, classes)
        for data in {model.temperature for model in models if model.temperature is not None}:
            check_divisible(data.images.labels)
            check_labels(data.images, classes)
        for sets in {model.sets for model in models if model.sets is not None}:
            check_labels(sets.images, classes)

    def add(self, point: str, answer: Callable[[Images], np.ndarray]) -> None:
        """Run one point on all images that it or one of its ensembles is measured on.

        `answer` returns the point's logits for labelled images, (N, classes).
        """
        if self._evaluation is not None:
            self._logits[point, None] = answer(self._evaluation)
        models = [model for model in self._models.values() if point in model.ensemble.members]
        asked = [data for model in models for data in (model.temperature, model.sets)]
        for data in {data for data in asked if data is not None}:
            self._logits[point, data] = answer(data.images)

    def record(self, name: str) -> Record:
        """Fit a point's or an ensemble's temperature, and measure and calibrate its answers at it."""
        model = self._models[name]
        ensemble = model.ensemble

        def averaged(data: _Data, temperature: float = 1.0) -> Answer:
            logits = [self._logits[member, data] for member in ensemble.members]
            return ensemble_answer(logits, ensemble.weights, ensemble.aggregate, temperature)

        temperature, fit = 1.0, None
        if model.temperature is not None:
            data = model.temperature
            fitted = fit_and_report(averaged(data).probabilities, data.images.labels, seed=data.seed)
            temperature = fitted.temperature
            fit = fit_record(fitted, data.name, data.seed)
        metrics: dict[str, float] = {}
        evaluated = None
        if self._evaluation is not None:
            evaluated = averaged(None, temperature).probabilities, self._evaluation.labels
            metrics = classification_metrics(*evaluated)
        if model.sets is None:
            return Record(metrics, temperature, fit)
        answer = averaged(model.sets, temperature)
        own = answer.probabilities
        disagreement = answer.disagreement if isinstance(model, EnsemblePlan) else None
        held_out = evaluated if model.sets.like_evaluation else None
        return Record(
            metrics,
            temperature,
            fit,
            sets_record(own, model.sets, held_out),
            abstention_record(own, model.sets, held_out),
            DriftReference.of(values_of(own, disagreement, self._intensities_of(model.sets)), model.sets.name),
        )

    def _intensities_of(self, data: SetsData) -> np.ndarray:
        """Return the images' mean intensities, computed once for all models."""
        if data not in self._intensities:
            self._intensities[data] = intensities_of(data.images)
        return self._intensities[data]


def intensities_of(images: Images) -> np.ndarray:
    """Return the mean intensity of each of N images, shape (N,)."""
    return np.concatenate([mean_intensities(pixels) for pixels, _ in images.batches(_BATCH)])


def sets_record(
    probabilities: np.ndarray, data: SetsData, held_out: tuple[np.ndarray, np.ndarray] | None = None
) -> Sets:
    """Calibrate prediction sets, and return the manifest's record of them.

    Args:
        probabilities: the answers to the images of `data`, shape (N, classes).
        data: the images.
        held_out: the answers to other images (M, classes), and their labels (M,), on which coverage is measured.

    Raises:
        DataError: as `subspace_serve.measure.conformal.calibrate`.
    """
    found = calibrate(probabilities, data.images.labels, data.method, seed=data.seed)
    measured = None if held_out is None else measure_coverage(found, *held_out)
    return Sets(
        method=found.method,
        data=data.name,
        count=found.count,
        seed=data.seed,
        k_reg=found.k_reg,
        penalty=found.penalty,
        tuned_on=found.tuned_on,
        scores=tuple(found.scores.tolist()),
        measured=None if measured is None else CoverageMeasured(**vars(measured)),
    )


def abstention_record(
    probabilities: np.ndarray, data: SetsData, held_out: tuple[np.ndarray, np.ndarray] | None = None
) -> Abstention:
    """Measure the answers' largest probability as a score, and return what abstaining by it takes.

    Args:
        probabilities: the answers to the images of `data`, shape (N, classes).
        data: the images.
        held_out: the answers to other images (M, classes), and their labels (M,), on which the score is measured; on
            the same images where there are no others.
    """
    scores, right = _surest(probabilities, data.images.labels)
    curve = risk_coverage(scores, right) if held_out is None else risk_coverage(*_surest(*held_out))
    return Abstention(
        data=data.name,
        count=len(scores),
        delta=DELTA,
        levels=tuple(AbstentionLevel(**level._asdict()) for level in levels_of(scores, right)),
        measured=RiskMeasured(
            images=len(curve.risks),
            held_out=held_out is not None,
            aurc=curve.aurc,
            answered_at_5_percent=curve.answered_at(0.05),
        ),
    )


def _surest(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest probabilities (N,), and whether their classes are the labels (N,)."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def fit_record(fitted: FittedTemperature, data: str, seed: int) -> TemperatureFit:
    """Return the manifest's record of a temperature that was fitted on images named `data`, divided with `seed`."""
    return TemperatureFit(
        data=data,
        count=fitted.count,
        seed=seed,
        reported_on=fitted.reported_on,
        before=_reliability(fitted.before),
        after=_reliability(fitted.after),
        at_bound=fitted.at_bound,
    )


def _reliability(metrics: dict[str, float]) -> Reliability:
    # Rounding can push both slightly out of their range.
    return Reliability(nll=max(metrics["nll"], 0.0), ece=min(max(metrics["ece"], 0.0), 1.0))
