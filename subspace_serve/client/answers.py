"""What a service answers about images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from subspace_serve.client.catalogue import Place, place_of


@dataclass(frozen=True)
class Label:
    """A class with its probability; `index` is its place among the bundle's labels."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class MemberPrediction:
    """What one member of an ensemble answered for an image, without any temperature. The entropy is in nats.

    `model` is a point's name, or a place.
    """

    model: str | Place
    labels: tuple[Label, ...]
    entropy: float


@dataclass(frozen=True)
class Prediction:
    """What a service answers for one image: the most probable classes first, and how uncertain it is.

    `entropy` and `mutual_information` are in nats, `disagreement` is in [0, 1]; only ensembles have the last two.
    `members` is filled when it was asked for. `set` holds the right label with the `coverage` that was asked for; it is
    None where the answer's `set_reason` says why there is none, and where none was asked for. `abstained` says whether
    the answer is too unsure for the `max_risk` that was asked for; None as of a set.
    """

    labels: tuple[Label, ...]
    entropy: float
    mutual_information: float | None = None
    disagreement: float | None = None
    members: tuple[MemberPrediction, ...] = ()
    set: tuple[Label, ...] | None = None
    abstained: bool | None = None

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.labels[0].label


@dataclass(frozen=True)
class Answer:
    """Who answered, and one prediction for each image.

    `model` is None when the members were chosen freely, or when a place without an exported point was asked for;
    `members` are points, by name, and places. `aggregate` is None for a single network. `alpha` is a single network's
    place, which may differ from the one asked for by less than the server's step, and `statistics` the set that all
    members share; servers of earlier versions leave these two out. `missing` says why members of the ensemble did not
    take part in the answer (where the server allows a quorum). `set_reason` says why there are no sets although a
    coverage was asked for, and `abstained_reason` why all answers abstain, or why nothing is promised of errors.
    `probabilities` is (N, classes) in the order of the bundle's labels; where the server answered with labels, as for
    image files, it is None if `top_k` left a class out.
    """

    model: str | None
    members: tuple[str | Place, ...]
    weights: tuple[float, ...]
    aggregate: str | None
    temperature: float
    predictions: tuple[Prediction, ...]
    alpha: Place | None = None
    statistics: str | None = None
    request_id: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    set_reason: str | None = None
    abstained_reason: str | None = None
    probabilities: np.ndarray | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_json(cls, document: Any, *, top_k: int, request_id: str | None) -> Answer:
        """Read an answer to a request for one label more than `top_k`: an answer with no more than `top_k` has all.

        Raises `KeyError`, `TypeError`, `ValueError` or `IndexError` for another document.
        """
        entries = document["predictions"]
        return cls(
            model=document["model"],
            members=tuple(map(place_of, document["members"])),
            weights=tuple(document["weights"]),
            aggregate=document["aggregate"],
            temperature=document["temperature"],
            predictions=tuple(_prediction(entry, top_k) for entry in entries),
            alpha=place_of(document.get("alpha")),
            statistics=document.get("statistics"),
            request_id=request_id,
            missing=document.get("missing", {}),
            set_reason=document.get("set_reason"),
            abstained_reason=document.get("abstained_reason"),
            probabilities=_matrix(entries) if len(entries[0]["labels"]) <= top_k else None,
        )


def _prediction(entry: Mapping[str, Any], top_k: int) -> Prediction:
    return Prediction(
        labels=_labels(entry, top_k),
        entropy=entry["entropy"],
        mutual_information=entry.get("mutual_information"),
        disagreement=entry.get("disagreement"),
        members=tuple(
            MemberPrediction(place_of(member["model"]), _labels(member, top_k), member["entropy"])
            for member in entry.get("members", ())
        ),
        set=set_of(entry.get("set")),
        abstained=entry.get("abstained"),
    )


def set_of(labels: Sequence[Mapping[str, Any]] | None) -> tuple[Label, ...] | None:
    """Return a set's labels; None where there is no set."""
    return None if labels is None else _read(labels)


def _labels(entry: Mapping[str, Any], top_k: int) -> tuple[Label, ...]:
    return _read(entry["labels"][:top_k])


def _read(labels: Sequence[Mapping[str, Any]]) -> tuple[Label, ...]:
    return tuple(Label(label["label"], label["index"], label["probability"]) for label in labels)


def _matrix(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    probabilities = np.zeros((len(entries), len(entries[0]["labels"])))
    for row, entry in enumerate(entries):
        for label in entry["labels"]:
            probabilities[row, label["index"]] = label["probability"]
    return probabilities
