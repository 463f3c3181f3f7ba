"""Answers of points and ensembles with their uncertainty, in numpy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from subspace_serve.answers import Answer, entropy_of, logarithm
from subspace_serve.bundle.manifest import Aggregate, Ensemble, Input
from subspace_serve.bundle.promises import NOTHING, Promised, Promises
from subspace_serve.bundle.reader import Bundle
from subspace_serve.bundle.selection import Built, Member, Models, Selection, UnknownModelError
from subspace_serve.bundle.session import PointSession, Run, open_session
from subspace_serve.bundle.subspace import BundledSubspace
from subspace_serve.errors import BundleError, DataError
from subspace_serve.network.sessions import Device
from subspace_serve.space.place import Alpha

_MOST_BUILT = 16
"""How many networks between points a predictor keeps."""


@dataclass(frozen=True)
class Prediction:
    """Probabilities for N images, and how uncertain they are. Entropies are in nats, disagreement in [0, 1].

    `probabilities` (N, classes) is the answer and `entropy` (N,) its entropy. Two measures are for ensembles only, and
    compare the members with the weighted mixture of their probabilities: `mutual_information` (N,) is the mixture's
    entropy less the members' mean entropy, and `disagreement` (N,) the members' mean total-variation distance from the
    mixture. When probabilities are averaged, the answer is that mixture; when logits are averaged, the two are still
    measured on the mixture, so that they are never negative.

    The selection's temperature T acts on the answer alone: its probabilities p become p^(1/T), normalised. The members'
    probabilities and these two measures are without it.

    `missing` says, by member, why members of the ensemble did not take part in the answer.
    """

    selection: Selection
    probabilities: np.ndarray
    mutual_information: np.ndarray | None
    disagreement: np.ndarray | None
    member_probabilities: np.ndarray  # (members, N, classes)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def entropy(self) -> np.ndarray:
        """The answer's entropy (N,)."""
        return entropy_of(self.probabilities)

    @property
    def logits(self) -> np.ndarray:
        """Numbers (N, classes) whose softmax is `probabilities`: their logarithms."""
        return logarithm(self.probabilities)

    def listed_sets(self, labels: Sequence[str], promised: Promised) -> list[list[dict[str, Any]]] | None:
        """Return the labels of each image's set, the most probable first; None where there are no sets."""
        if promised.sets is None:
            return None
        rows = zip(promised.sets, self.probabilities, strict=True)
        return [_ranked(own, held.nonzero()[0], labels) for held, own in rows]

    def to_json(
        self, labels: Sequence[str], *, top_k: int = 5, return_members: bool = False, promises: Promises = NOTHING
    ) -> dict[str, Any]:
        """Return the document that the service answers with and `predict --json` writes."""
        entropy = self.entropy
        promised = promises.of(self.selection, self.probabilities)
        sets = self.listed_sets(labels, promised)
        predictions = []
        for index in range(len(self.probabilities)):
            entry: dict[str, Any] = {
                "labels": _top(self.probabilities[index], labels, top_k),
                "entropy": float(entropy[index]),
            }
            if self.mutual_information is not None and self.disagreement is not None:
                entry["mutual_information"] = float(self.mutual_information[index])
                entry["disagreement"] = float(self.disagreement[index])
            if promises.coverage is not None:
                entry["set"] = None if sets is None else sets[index]
            if promises.max_risk is not None:
                entry["abstained"] = None if promised.abstained is None else bool(promised.abstained[index])
            if return_members:
                entry["members"] = [
                    {
                        "model": name,
                        "labels": _top(member[index], labels, top_k),
                        "entropy": float(entropy_of(member[index])),
                    }
                    for name, member in zip(named(self.selection), self.member_probabilities, strict=True)
                ]
            predictions.append(entry)
        return {
            "model": self.selection.model,
            "alpha": self.selection.alpha,
            "statistics": self.selection.statistics,
            "members": named(self.selection),
            "weights": list(self.selection.weights),
            "aggregate": self.selection.aggregate,
            "temperature": self.selection.temperature,
            **({"missing": dict(self.missing)} if self.missing else {}),
            **promised.reasons(),
            "predictions": predictions,
        }


class Predictor:
    """Runs a bundle's points, and networks between them; each is loaded when it is first needed, or by `load`.

    `ensembles` are added to the bundle's own and may replace them; `default` replaces the bundle's. With `models`, only
    these points and ensembles, and the ensembles' members, are available; the others are not loaded. `anywhere` says
    whether the bundle's subspace is used; places in it are rounded to multiples of `step`. Raises `BundleError` when
    one of them does not fit the bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: Device = "auto",
        threads: int = 0,
        ensembles: Mapping[str, Ensemble] | None = None,
        default: str | None = None,
        models: Collection[str] | None = None,
        anywhere: bool = True,
        step: float = 0.0,
    ) -> None:
        self.bundle = bundle
        self.device: Device = device
        self.threads = threads
        self.points = dict(bundle.points)
        self.ensembles = {**bundle.ensembles, **(ensembles or {})}
        self.default = default or bundle.default
        self.subspace: BundledSubspace | None = None
        if anywhere and bundle.manifest.subspace is not None:
            self.subspace = BundledSubspace(bundle, device=device, threads=threads)
        self._sessions: dict[Member, PointSession] = {}
        self._check_names()
        if models is not None:
            self._keep(models)
        self.models = Models(
            self.points,
            self.ensembles,
            self.default,
            self.subspace.geometry if self.subspace else None,
            bundle.manifest.domains,
            step,
        )
        self._check_default()

    def load(self, batch_sizes: Sequence[int] = (1,)) -> dict[str, str]:
        """Load every point and run it once at each batch size; return the execution provider that each really uses."""
        input = self.bundle.manifest.input
        for name in self.points:
            for size in batch_sizes:
                self.logits(name, np.zeros((size, *input.shape), dtype=input.dtype))
        if self.subspace is not None:
            self.subspace.prepare()
        return {str(name): session.provider for name, session in self._sessions.items()}

    def select(
        self,
        model: str | None = None,
        members: Sequence[str | Alpha] | None = None,
        weights: Sequence[float] | None = None,
        aggregate: Aggregate | None = None,
        alpha: Alpha | None = None,
        domain: str | None = None,
    ) -> Selection:
        """Resolve a choice of model; see `subspace_serve.bundle.selection.Models.select`."""
        return self.models.select(
            model=model, members=members, weights=weights, aggregate=aggregate, alpha=alpha, domain=domain
        )

    def predict(self, images: np.ndarray, selection: Selection | None = None) -> Prediction:
        """Classify N images in the graph's input format, by the default model unless a selection is given.

        Raises `DataError` for another shape or type, `BundleError` when a graph answers with non-finite numbers.
        """
        check_images(images, self.bundle.manifest.input)
        selection = selection or self.select()
        logits = np.stack([self.logits(name, images) for name in selection.members])
        check_finite(logits, selection.members)
        return combine(logits, selection)

    def logits(self, member: Member, images: np.ndarray, run: Run | None = None) -> np.ndarray:
        """Return one network's logits (N, classes) for N images; `run` can stop the graph early, which raises."""
        if member not in self._sessions:
            self._sessions[member] = self._open(member)
            built = [kept for kept in self._sessions if isinstance(kept, Built)]
            for oldest in built[:-_MOST_BUILT]:
                del self._sessions[oldest]
        return self._sessions[member].logits(images, run)

    def _open(self, member: Member) -> PointSession:
        if isinstance(member, str):
            return open_session(
                self.bundle.path(member),
                self.bundle.manifest.input,
                len(self.bundle.labels),
                device=self.device,
                threads=self.threads,
            )
        if self.subspace is None:
            raise BundleError(f"{member} is no point, and the bundle's subspace is not used here")
        return self.subspace.session(member.alpha, member.statistics)

    def _check_names(self) -> None:
        for name, ensemble in self.ensembles.items():
            if name in self.bundle.points:
                raise BundleError(f"the ensemble {name} has the name of a point; choose another name")
            if unknown := [member for member in ensemble.members if member not in self.bundle.points]:
                raise BundleError(
                    f"the ensemble {name} has the member {unknown[0]}, and this bundle has no such point; "
                    f"it has {', '.join(self.bundle.points)}"
                )

    def _keep(self, models: Collection[str]) -> None:
        """Drop what is not among `models`."""
        known = [*self.points, *self.ensembles]
        if unknown := [name for name in models if name not in known]:
            raise BundleError(f"models names {unknown[0]!r}, and this bundle has {', '.join(known)}")
        self.ensembles = {name: ensemble for name, ensemble in self.ensembles.items() if name in models}
        needed = {*models, *(member for ensemble in self.ensembles.values() for member in ensemble.members)}
        self.points = {name: point for name, point in self.points.items() if name in needed}

    def _check_default(self) -> None:
        try:
            self.select()
        except UnknownModelError as error:
            raise BundleError(f"the default model does not fit the bundle: {error}") from None


def check_images(images: np.ndarray, input: Input) -> None:
    """Raise `DataError` unless there are images, in a graph's input format."""
    if images.ndim != 4 or images.shape[1:] != input.shape or images.dtype != input.dtype or not len(images):
        raise DataError(
            f"got images of shape {images.shape} and type {images.dtype}, expected "
            f"(N, {', '.join(map(str, input.shape))}) {input.dtype} ({input.layout})"
        )


def check_finite(logits: np.ndarray, members: Sequence[Member]) -> None:
    """Raise `BundleError` with the name of a member whose logits (members, N, classes) are not all finite."""
    for name, own in zip(members, logits, strict=True):
        if not np.isfinite(own).all():
            raise BundleError(f"point {name} answers with numbers that are not finite; export the bundle again")


def named(selection: Selection) -> list[str | Alpha]:
    """Return the members as documents list them: points by name, built networks by place."""
    return [member.alpha if isinstance(member, Built) else member for member in selection.members]


def combine(logits: np.ndarray, selection: Selection, missing: Mapping[Member, str] | None = None) -> Prediction:
    """Return the prediction that members' logits (members, N, classes) give together, as a selection says."""
    alone = selection.aggregate is None
    answer = Answer(
        logits.astype(np.float64),
        np.array(selection.weights),
        selection.aggregate or "probabilities",
        selection.temperature,
    )
    return Prediction(
        selection,
        answer.probabilities,
        None if alone else answer.mutual_information,
        None if alone else answer.disagreement,
        answer.members,
        {str(member): reason for member, reason in (missing or {}).items()},
    )


def _top(probabilities: np.ndarray, labels: Sequence[str], count: int) -> list[dict[str, Any]]:
    order = np.argsort(-probabilities, kind="stable")[:count]
    return _listed(order.tolist(), probabilities[order].tolist(), labels)


def _ranked(probabilities: np.ndarray, indices: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return labels, the most probable first. Sets are small, so they are not sorted by numpy."""
    values = probabilities[indices].tolist()
    pairs = sorted(zip(values, indices.tolist(), strict=True), key=lambda pair: -pair[0])
    return _listed([index for _, index in pairs], [value for value, _ in pairs], labels)


def _listed(indices: Sequence[int], values: Sequence[float], labels: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"label": labels[index], "index": index, "probability": value}
        for index, value in zip(indices, values, strict=True)
    ]
