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
    """What one member of an ensemble said of an image, without any temperature. The entropy is in nats.

    `model` is a point's name, or a place.
    """

    model: str | Place
    labels: tuple[Label, ...]
    entropy: float


@dataclass(frozen=True)
class Prediction:
    """What a service says of one image: the most probable classes first, and how sure it is.

    `entropy` and `mutual_information` are in nats, `disagreement` is in [0, 1]; the last two are of ensembles only.
    `members` are there when they were asked for.
    """

    labels: tuple[Label, ...]
    entropy: float
    mutual_information: float | None = None
    disagreement: float | None = None
    members: tuple[MemberPrediction, ...] = ()

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.labels[0].label


@dataclass(frozen=True)
class Answer:
    """Who answered, and one prediction for each image.

    `model` is None when the members were chosen freely, or a place that is no point's was asked; `members` are points,
    by name, and places. `aggregate` is None for a single network, `alpha` its place, which may be another than was
    asked by less than the server's step; `statistics` is the set that all members have. Servers of earlier versions
    leave these two out. `missing` says why members of the ensemble are not among those that answered (a server with a
    quorum). `probabilities` are (N, classes) in the order of the bundle's labels; for image files only where `top_k`
    left no class out, else None.
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
    probabilities: np.ndarray | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_json(cls, document: Any, *, top_k: int, request_id: str | None) -> Answer:
        """Read an answer that was asked for one label more than `top_k`: where it has fewer, it has every class.

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
    )


def _labels(entry: Mapping[str, Any], top_k: int) -> tuple[Label, ...]:
    return tuple(Label(label["label"], label["index"], label["probability"]) for label in entry["labels"][:top_k])


def _matrix(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    probabilities = np.zeros((len(entries), len(entries[0]["labels"])))
    for row, entry in enumerate(entries):
        for label in entry["labels"]:
            probabilities[row, label["index"]] = label["probability"]
    return probabilities
