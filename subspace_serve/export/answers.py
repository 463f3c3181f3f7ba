"""What a bundle records of its models' answers on labelled images: temperature and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from subspace_serve.answers import ensemble_probabilities
from subspace_serve.bundle.manifest import Reliability, TemperatureFit
from subspace_serve.data import Images
from subspace_serve.export.plan import EnsemblePlan, PointPlan
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.measure.networks import check_labels
from subspace_serve.measure.temperature import FittedTemperature, TemperatureData, check_divisible, fit_and_report


@dataclass(frozen=True)
class Record:
    """What the manifest says of one point's or ensemble's answers; `metrics` are measured at the temperature."""

    metrics: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    temperature_fit: TemperatureFit | None = None

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
    """Points' logits on labelled images, from which temperatures are fitted and metrics measured."""

    def __init__(self, models: Sequence[PointPlan | EnsemblePlan], evaluation: Images | None, classes: int) -> None:
        """Check the images; run nothing yet.

        Args:
            models: the points and ensembles, with the images on which their temperatures are fitted.
            evaluation: images on which metrics are measured; None measures none.
            classes: of the networks.

        Raises:
            DataError: images cannot be divided to fit a temperature, or their labels are not the networks'.
        """
        self._models = {model.name: model for model in models}
        self._evaluation = evaluation
        self._logits: dict[tuple[str, TemperatureData | None], np.ndarray] = {}  # None: the evaluation's images
        if evaluation is not None:
            check_labels(evaluation, classes)
        for data in {model.temperature for model in models if model.temperature is not None}:
            check_divisible(data.images.labels)
            check_labels(data.images, classes)

    def add(self, point: str, answer: Callable[[Images], np.ndarray]) -> None:
        """Run one point over all images that its own answers, and those of its ensembles, are needed on.

        `answer` returns the point's logits for labelled images, (N, classes).
        """
        if self._evaluation is not None:
            self._logits[point, None] = answer(self._evaluation)
        asked = [model.temperature for model in self._models.values() if point in model.ensemble.members]
        for data in {data for data in asked if data is not None}:
            self._logits[point, data] = answer(data.images)

    def record(self, name: str) -> Record:
        """Fit a point's or an ensemble's temperature, and measure its answers at it."""
        model = self._models[name]
        ensemble = model.ensemble

        def averaged(data: TemperatureData | None, temperature: float = 1.0) -> np.ndarray:
            logits = [self._logits[member, data] for member in ensemble.members]
            return ensemble_probabilities(logits, ensemble.weights, ensemble.aggregate, temperature)

        temperature, fit = 1.0, None
        if model.temperature is not None:
            data = model.temperature
            fitted = fit_and_report(averaged(data), data.images.labels, seed=data.seed)
            temperature = fitted.temperature
            fit = fit_record(fitted, data.name, data.seed)
        metrics: dict[str, float] = {}
        if self._evaluation is not None:
            metrics = classification_metrics(averaged(None, temperature), self._evaluation.labels)
        return Record(metrics, temperature, fit)


def fit_record(fitted: FittedTemperature, data: str, seed: int) -> TemperatureFit:
    """Return what the manifest says of a temperature that was fitted on images named `data`, divided with `seed`."""
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
    # Rounding can put both a little outside their range.
    return Reliability(nll=max(metrics["nll"], 0.0), ece=min(max(metrics["ece"], 0.0), 1.0))
