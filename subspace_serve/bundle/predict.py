"""Answers of points and ensembles with their uncertainty, in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace_serve.bundle.manifest import Aggregate, Ensemble
from subspace_serve.bundle.reader import Bundle
from subspace_serve.bundle.selection import Selection, UnknownModelError, select
from subspace_serve.bundle.session import Device, PointSession, open_session
from subspace_serve.errors import BundleError, DataError


@dataclass(frozen=True)
class Prediction:
    """Probabilities for N images, and how sure they are. Entropies are in nats, disagreement in [0, 1].

    `probabilities` (N, classes) is the answer and `entropy` (N,) its entropy. For ensembles, of the weighted mixture
    of the members' probabilities: `mutual_information` (N,) is its entropy less the members' mean entropy, and
    `disagreement` (N,) the members' mean total-variation distance to it. When probabilities are averaged, the answer
    is that mixture; when logits are, the two measures stay those of the mixture, so that they are never negative.

    The selection's temperature T acts on the answer alone: its probabilities p become p^(1/T), normalised. What the
    members answered, and the two measures of how far they differ, are as the networks gave them.
    """

    selection: Selection
    probabilities: np.ndarray
    entropy: np.ndarray
    mutual_information: np.ndarray | None
    disagreement: np.ndarray | None
    member_probabilities: np.ndarray  # (members, N, classes)

    def to_json(self, labels: Sequence[str], *, top_k: int = 5, return_members: bool = False) -> dict[str, Any]:
        """Return the document that the service and `predict --json` give."""
        predictions = []
        for index in range(len(self.probabilities)):
            entry: dict[str, Any] = {
                "labels": _top(self.probabilities[index], labels, top_k),
                "entropy": float(self.entropy[index]),
            }
            if self.mutual_information is not None and self.disagreement is not None:
                entry["mutual_information"] = float(self.mutual_information[index])
                entry["disagreement"] = float(self.disagreement[index])
            if return_members:
                entry["members"] = [
                    {
                        "model": name,
                        "labels": _top(member[index], labels, top_k),
                        "entropy": float(entropy_of(member[index])),
                    }
                    for name, member in zip(self.selection.members, self.member_probabilities, strict=True)
                ]
            predictions.append(entry)
        return {
            "model": self.selection.model,
            "members": list(self.selection.members),
            "weights": list(self.selection.weights),
            "aggregate": self.selection.aggregate,
            "temperature": self.selection.temperature,
            "predictions": predictions,
        }


class Predictor:
    """Runs a bundle's points; each graph is loaded when it is first needed, or by `load`.

    `ensembles` are added to the bundle's own and may replace them; `default` replaces the bundle's. Raises
    `BundleError` when one of them does not fit the bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: Device = "auto",
        threads: int = 0,
        ensembles: Mapping[str, Ensemble] | None = None,
        default: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.device: Device = device
        self.threads = threads
        self.ensembles = {**bundle.ensembles, **(ensembles or {})}
        self.default = default or bundle.default
        self._sessions: dict[str, PointSession] = {}
        self._check_names()

    def load(self) -> dict[str, str]:
        """Load and warm up every point; return the execution provider that each really has."""
        input = self.bundle.manifest.input
        blank = np.zeros((1, *input.shape), dtype=input.dtype)
        for name in self.bundle.points:
            self._logits(name, blank)
        return {name: session.provider for name, session in self._sessions.items()}

    def select(
        self,
        model: str | None = None,
        members: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        aggregate: Aggregate | None = None,
    ) -> Selection:
        """Resolve a choice of model; see `subspace_serve.bundle.selection.select`."""
        return select(
            self.bundle.points,
            self.ensembles,
            self.default,
            model=model,
            members=members,
            weights=weights,
            aggregate=aggregate,
        )

    def predict(self, images: np.ndarray, selection: Selection | None = None) -> Prediction:
        """Classify N images in the graph's input format, by the default model unless a selection is given.

        Raises `DataError` for another shape or type, `BundleError` when a graph answers with non-finite numbers.
        """
        input = self.bundle.manifest.input
        if images.ndim != 4 or images.shape[1:] != input.shape or images.dtype != input.dtype or not len(images):
            raise DataError(
                f"got images of shape {images.shape} and type {images.dtype}, expected "
                f"(N, {', '.join(map(str, input.shape))}) {input.dtype} ({input.layout})"
            )
        selection = selection or self.select()
        logits = np.stack([self._logits(name, images) for name in selection.members])
        return combine(logits, selection)

    def _logits(self, name: str, images: np.ndarray) -> np.ndarray:
        """Return a point's logits, as float64."""
        if name not in self._sessions:
            self._sessions[name] = open_session(
                self.bundle.path(name),
                self.bundle.manifest.input,
                len(self.bundle.labels),
                device=self.device,
                threads=self.threads,
            )
        logits = self._sessions[name].logits(images)
        if not np.isfinite(logits).all():
            raise BundleError(f"point {name} answers with numbers that are not finite; export the bundle again")
        return logits.astype(np.float64)

    def _check_names(self) -> None:
        for name, ensemble in self.ensembles.items():
            if name in self.bundle.points:
                raise BundleError(f"the ensemble {name} has the name of a point; choose another name")
            if unknown := [member for member in ensemble.members if member not in self.bundle.points]:
                raise BundleError(
                    f"the ensemble {name} has the member {unknown[0]}, and this bundle has no such point; "
                    f"it has {', '.join(self.bundle.points)}"
                )
        try:
            self.select()
        except UnknownModelError as error:
            raise BundleError(f"the default model does not fit the bundle: {error}") from None


def combine(logits: np.ndarray, selection: Selection) -> Prediction:
    """Average members' logits (members, N, classes), or their probabilities; the temperature acts on the result."""
    members = softmax(logits)
    if selection.aggregate is None:
        answer = softmax(logits[0] / selection.temperature)
        return Prediction(selection, answer, entropy_of(answer), None, None, members)
    weights = np.asarray(selection.weights)
    mixture = np.tensordot(weights, members, axes=1)
    if selection.aggregate == "logits":
        answer = softmax(np.tensordot(weights, logits, axes=1) / selection.temperature)
    elif selection.temperature != 1:
        tiny = np.finfo(np.float64).tiny
        answer = softmax(np.log(np.maximum(mixture, tiny)) / selection.temperature)
    else:
        answer = mixture
    mutual_information = entropy_of(mixture) - np.tensordot(weights, entropy_of(members), axes=1)
    distances = np.abs(members - mixture).sum(axis=-1) / 2
    return Prediction(
        selection,
        answer,
        entropy_of(answer),
        np.maximum(mutual_information, 0),  # rounding can put members that agree a little below 0
        np.tensordot(weights, distances, axes=1),
        members,
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def entropy_of(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy over the last axis in nats; 0 log 0 is 0."""
    positive = np.where(probabilities > 0, probabilities, 1)
    return -(probabilities * np.log(positive)).sum(axis=-1)


def _top(probabilities: np.ndarray, labels: Sequence[str], count: int) -> list[dict[str, Any]]:
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [
        {"label": labels[index], "index": int(index), "probability": float(probabilities[index])} for index in order
    ]
