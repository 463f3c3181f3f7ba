"""Watches the answers of a bundle's models, and raises an alarm when they are no longer as they were."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import numpy as np

from service.drift_store import DriftStore, Kept
from service.logs import logger
from service.metrics import Metrics
from service.responses import Drift, DriftCalibration
from service.staging import State
from subspace_serve.bundle.drift import DriftReference
from subspace_serve.bundle.manifest import Ensemble, Point
from subspace_serve.bundle.predict import Prediction, Predictor
from subspace_serve.bundle.selection import UnknownModelError
from subspace_serve.drift import BINS, OF_POINTS, STATISTICS, Statistic, Stream, bins_of, mean_intensities, values_of
from subspace_serve.suggestions import listed

_SECONDS = 1.0
"""How long an answer waits, at most, before it is added to its stream."""
_MOST_AT_ONCE = 100
"""How many images are watched between two times of adding up, so that a fast stream costs no more than a slow one.

They are the first to come. What they show has no part in that, so those that are watched are as exchangeable as all.
"""
_MOST_WAITING = 50_000
"""How many images wait at most where nothing can be written; later ones are not watched."""


class DriftAlarm:
    """The streams of images that each point and each ensemble of a bundle has answered, by any worker process.

    An answer is watched if it is the model's own, as it was exported: what may be promised of it
    (`subspace_serve.bundle.promises`). A request only hands its answer over; a thread computes and adds up.
    """

    def __init__(self, predictor: Predictor, sha256: str, metrics: Metrics, state: State | None) -> None:
        self._models: Mapping[str, Point | Ensemble] = {**predictor.points, **predictor.ensembles}
        self._domains = predictor.bundle.manifest.domains.keys()
        self._sha256 = sha256
        self._metrics = metrics
        self._store = DriftStore(state.folder / "drift" if state else None, sha256)
        self._random = np.random.default_rng()
        self._adding = threading.Lock()  # so that who waits for it finds everything added
        self._handing = threading.Lock()
        self._answers: dict[str, list[tuple[Prediction, np.ndarray]]] = {}
        self._room = _MOST_AT_ONCE
        self._waiting: dict[str, list[np.ndarray]] = {}
        self._is_failing = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)
        self._thread.start()

    def observe(self, prediction: Prediction, images: np.ndarray) -> None:
        """Note the answer to N images, in the graph's format, if it is watched."""
        name = prediction.selection.model
        if prediction.selection.source is None or name is None or self._room <= 0:
            return
        with self._handing:
            watched = images[: self._room]
            self._room -= len(watched)
            self._answers.setdefault(name, []).append((prediction, watched))

    def document(self, name: str) -> Drift:
        """Return what is known of a model's stream. Raises `UnknownModelError`; `OSError` if it cannot be read."""
        self._check(name)
        self._add_up()
        return self._describe(name, self._store.read(name, lambda: self._begin(name)))

    def reset(self, name: str) -> Drift:
        """Begin a model's stream anew, and return it. Raises `UnknownModelError`; `OSError` if it cannot be written."""
        self._check(name)
        self._add_up()  # what was answered before belongs to the old stream
        with self._store.changing(name, lambda: self._begin(name)) as kept:
            kept.stream, kept.since = self._begin(name), None
        self._show(name, kept)
        return self._describe(name, kept)

    def refresh(self) -> None:
        """Bring the metrics of all models up to date."""
        self._add_up()
        try:
            for name in self._models:
                self._show(name, self._store.read(name, lambda name=name: self._begin(name)))  # type: ignore[misc]
        except OSError as error:
            self._complain(error)

    def close(self, successor: DriftAlarm | None = None) -> None:
        """Add up what waits, and stop. Models that the successor does not have no longer raise the alarm."""
        self._closed.set()
        self._thread.join(2 * _SECONDS)
        if successor is not None:
            for name in self._models.keys() - successor._models.keys():
                self._show(name, Kept(self._begin(name)))

    def _run(self) -> None:
        while not self._closed.wait(_SECONDS):
            self._add_up()
        self._add_up()

    def _add_up(self) -> None:
        with self._adding:
            with self._handing:
                answers, self._answers, self._room = self._answers, {}, _MOST_AT_ONCE
            if sum(values.shape[1] for parts in self._waiting.values() for values in parts) < _MOST_WAITING:
                for name, own in answers.items():
                    self._waiting.setdefault(name, []).append(_values(own))
            try:
                for name in list(self._waiting):
                    self._add(name, np.concatenate(self._waiting[name], axis=1))
                    del self._waiting[name]
                self._is_failing = False
            except OSError as error:
                self._complain(error)

    def _add(self, name: str, values: np.ndarray) -> None:
        with self._store.changing(name, lambda: self._begin(name)) as kept:
            kept.stream.add(bins_of(values), self._random)
            is_new = kept.stream.alarm is not None and kept.since is None
            if is_new:
                kept.since = time.time()
        if is_new:
            logger.warning("drift: the images that %s answers have changed; see GET /models/%s/drift", name, name)
        self._show(name, kept)

    def _begin(self, name: str) -> Stream:
        reference = self._models[name].drift
        bins = reference.bins if reference is not None else {}
        return Stream.begin(np.array([bins.get(part, (0,) * BINS) for part in self._statistics(name)], dtype=np.int64))

    def _statistics(self, name: str) -> tuple[Statistic, ...]:
        return STATISTICS if isinstance(self._models[name], Ensemble) else OF_POINTS

    def _check(self, name: str) -> None:
        if name not in self._models:
            raise UnknownModelError(f"there is no model {name!r:.120}; this bundle has {listed([*self._models], 10)}")

    def _show(self, name: str, kept: Kept) -> None:
        self._metrics.drift_wealth(name).set(_log10(kept.stream.wealth.max()))
        self._metrics.drift_alarm(name).set(kept.stream.alarm is not None)
        self._metrics.drift_images(name).set(kept.stream.images)

    def _complain(self, error: OSError) -> None:
        if not self._is_failing:
            logger.error("the drift alarm cannot keep what it watches, and goes on when it can: %s", error)
        self._is_failing = True

    def _describe(self, name: str, kept: Kept) -> Drift:
        stream, model = kept.stream, self._models[name]
        calibration: DriftCalibration | None = None
        if model.drift is not None:
            calibration = {"data": model.drift.data, "images": model.drift.count}
        domain = model.statistics if isinstance(model, Point) else None
        return {
            "model": name,
            "domain": domain if domain in self._domains else None,
            "bundle": {"sha256": self._sha256},
            "images": stream.images,
            "calibration": calibration,
            "statistics": [
                {"name": statistic, "log10_wealth": _log10(wealth), "log10_highest": _log10(highest)}
                for statistic, wealth, highest in zip(
                    self._statistics(name), stream.wealth, stream.highest, strict=True
                )
            ],
            "log10_wealth": _log10(stream.wealth.max()),
            "p_value": stream.p_value,
            "alarm": stream.alarm is not None,
            "since": None if stream.alarm is None else {"image": stream.alarm, "time": _time(kept.since)},
            "advice": _advice(name, stream, model.drift),
        }


def _values(answers: Sequence[tuple[Prediction, np.ndarray]]) -> np.ndarray:
    """Return the statistics (S, N) of a model's answers, each to the first images of a request."""
    probabilities, disagreements = [], []
    for answer, images in answers:
        probabilities.append(answer.probabilities[: len(images)])
        if answer.disagreement is not None:
            disagreements.append(answer.disagreement[: len(images)])
    return values_of(
        np.concatenate(probabilities),
        np.concatenate(disagreements) if disagreements else None,
        mean_intensities(np.concatenate([images for _, images in answers])),
    )


def _advice(name: str, stream: Stream, reference: DriftReference | None) -> str:
    if stream.alarm is not None:
        return (
            "the images are no longer answered as those before them; look at the images and where they come from. If "
            "they are to stay so, adapt the bundle to them (subspace-serve adapt) and reload it; if the cause is "
            f"gone, POST /models/{name}/drift/reset"
        )
    if reference is None:
        return (
            "nothing, but only changes since the first image are seen, since the bundle keeps no calibration images "
            "for this model; export it with --sets-data, or adapt with --val-data"
        )
    return "nothing: there is no evidence of a change"


def _log10(value: float) -> float:
    """Return the common logarithm of what a natural logarithm is given of."""
    return float(value / np.log(10))


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds or 0, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
