"""What a bundle records of its models' answers on labelled images: temperature and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from subspace_serve.answers import ensemble_probabilities
from subspace_serve.bundle.manifest import Aggregate, Reliability, TemperatureFit
from subspace_serve.data import Images
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.measure.networks import check_labels
from subspace_serve.measure.temperature import FittedTemperature, TemperatureData, check_divisible, fit_and_report
from subspace_serve.space.alpha import EnsembleRequest


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

    def __init__(
        self,
        ensembles: Mapping[str, EnsembleRequest],
        *,
        evaluation: Images | None,
        temperatures: Mapping[str, TemperatureData],
        classes: int,
    ) -> None:
        """Check the images; run nothing yet.

        Args:
            ensembles: what is averaged, by name.
            evaluation: images on which metrics are measured; None measures none.
            temperatures: by the point's or ensemble's name, images on which its temperature is fitted; it is 1 for
                the others.
            classes: of the networks.

        Raises:
            DataError: images cannot be divided to fit a temperature, or their labels are not the networks'.
        """
        self._ensembles = ensembles
        self._evaluation = evaluation
        self._temperatures = temperatures
        self._evaluated: dict[str, np.ndarray] = {}
        self._fitted: dict[tuple[str, TemperatureData], np.ndarray] = {}
        if evaluation is not None:
            check_labels(evaluation, classes)
        for data in set(temperatures.values()):
            check_divisible(data.images.labels)
            check_labels(data.images, classes)

    def add(self, point: str, answer: Callable[[Images], np.ndarray]) -> None:
        """Run one point over all images that its own answers, and those of its ensembles, are needed on.

        `answer` returns the point's logits for labelled images, (N, classes).
        """
        if self._evaluation is not None:
            self._evaluated[point] = answer(self._evaluation)
        answering = [point, *(name for name, ensemble in self._ensembles.items() if point in ensemble.members)]
        for data in {self._temperatures[name] for name in answering if name in self._temperatures}:
            self._fitted[point, data] = answer(data.images)

    def record(self, name: str, aggregate: Aggregate = "probabilities") -> Record:
        """Fit a point's or an ensemble's temperature, and measure its answers at it.

        `aggregate` is what is averaged where the ensemble does not say it.
        """
        ensemble = self._ensembles.get(name, EnsembleRequest((name,)))

        def averaged(logits: list[np.ndarray], temperature: float = 1.0) -> np.ndarray:
            return ensemble_probabilities(logits, ensemble.weights, ensemble.aggregate or aggregate, temperature)

        temperature, fit = 1.0, None
        if name in self._temperatures:
            data = self._temperatures[name]
            probabilities = averaged([self._fitted[member, data] for member in ensemble.members])
            fitted = fit_and_report(probabilities, data.images.labels, seed=data.seed)
            temperature, fit = fitted.temperature, _manifest_fit(data, fitted)
        metrics: dict[str, float] = {}
        if self._evaluation is not None:
            probabilities = averaged([self._evaluated[member] for member in ensemble.members], temperature)
            metrics = classification_metrics(probabilities, self._evaluation.labels)
        return Record(metrics, temperature, fit)


def _manifest_fit(data: TemperatureData, fitted: FittedTemperature) -> TemperatureFit:
    return TemperatureFit(
        data=data.name,
        count=fitted.count,
        seed=data.seed,
        reported_on=fitted.reported_on,
        before=_reliability(fitted.before),
        after=_reliability(fitted.after),
        at_bound=fitted.at_bound,
    )


def _reliability(metrics: dict[str, float]) -> Reliability:
    # Rounding can put both a little outside their range.
    return Reliability(nll=max(metrics["nll"], 0.0), ece=min(max(metrics["ece"], 0.0), 1.0))
