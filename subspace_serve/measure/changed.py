"""The images that several networks or ensembles classify differently."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from subspace_serve.data import Images
from subspace_serve.measure.networks import Candidate, Networks, combined

MOST_SHOWN = 24


class Answers(NamedTuple):
    """A model's answers for N images: the most probable class and its probability, each of shape (N,)."""

    classes: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class ChangedAnswer:
    """One image that is classified differently.

    Attributes:
        index: its index in the set.
        pixels: uint8, (height, width, channels).
        label: the name of its true class.
        answers: the class and its probability that each model gives, in the order of `ChangedAnswers.models`.
    """

    index: int
    pixels: np.ndarray
    label: str
    answers: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ChangedAnswers:
    """The images that models classify differently.

    Attributes:
        models: their names.
        count: how many such images there are.
        images: how many were classified.
        shown: some of them, the most confident differences first.
    """

    models: tuple[str, ...]
    count: int
    images: int
    shown: tuple[ChangedAnswer, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all but the pixels as JSON values."""
        shown = [
            {
                "index": entry.index,
                "label": entry.label,
                "answers": [{"class": name, "probability": probability} for name, probability in entry.answers],
            }
            for entry in self.shown
        ]
        return {"models": list(self.models), "count": self.count, "images": self.images, "shown": shown}


def answers_of(networks: Networks, candidates: Sequence[Candidate], images: Images) -> list[Answers]:
    """Return what each candidate answers to every image.

    Raises:
        DataError: there are no images, or a label is not one of the network's classes.
    """

    def answer(candidate: Candidate, logits: dict[Any, np.ndarray], labels: np.ndarray) -> Answers:
        probabilities = combined(candidate, logits)
        return Answers(probabilities.argmax(axis=1), probabilities.max(axis=1))

    found = networks.measure(candidates, images, answer)
    return [Answers(*map(np.concatenate, zip(*parts, strict=True))) for parts in found]


def changed_answers(
    models: Mapping[str, Answers], images: Images, class_names: Sequence[str], *, most: int = MOST_SHOWN
) -> ChangedAnswers:
    """Find the images to which models give different answers.

    The confidence of a difference is that of the less confident of the two answers. Images are ranked by their most
    confident difference, and among equals the earlier image comes first.

    Args:
        models: by name, each one's answers to all of `images`.
        images: what was classified.
        class_names: by class.
        most: how many images are kept.
    """
    confidence = np.full(len(images), -1.0)
    for first, second in itertools.combinations(models.values(), 2):
        less_sure = np.minimum(first.probabilities, second.probabilities)
        confidence = np.maximum(confidence, np.where(first.classes != second.classes, less_sure, -1.0))
    count = int(np.count_nonzero(confidence >= 0))
    chosen = np.argsort(-confidence, kind="stable")[: min(count, most)]
    shown = []
    for index, pixels, label in zip(chosen.tolist(), *images.take(chosen), strict=True):
        answers = [(class_names[given.classes[index]], float(given.probabilities[index])) for given in models.values()]
        shown.append(ChangedAnswer(index, pixels, class_names[label], tuple(answers)))
    return ChangedAnswers(tuple(models), count, len(images), tuple(shown))
