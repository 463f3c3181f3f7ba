"""Requests whose answers say which generation of a bundle they came from, and that it was one as a whole."""

from __future__ import annotations

import numpy as np
from bundle_factory import LABELS

from stress.answers import answered, difference, probabilities
from stress.bundles import sound_images
from stress.cases import Case
from stress.wire import Reply, document

TOKEN = "secret"
AUTHORIZATION = {"authorization": f"Bearer {TOKEN}"}

_MEMBERS = ("first", "second")


def generation_cases(generations: tuple[int, ...], count: int = 20) -> list[Case]:
    """Return requests that must be answered by one of these generations."""
    return [_case(sound_images(2, seed), generations) for seed in range(count)]


def _case(images: np.ndarray, generations: tuple[int, ...]) -> Case:
    options = {"images": images.tolist(), "model": "pair", "return_members": True, "top_k": len(LABELS)}
    expected = {generation: _answers(images, generation) for generation in generations}

    def check(reply: Reply) -> str | None:
        found = [answered(reply), *(_of_member(reply, index) for index in range(len(_MEMBERS)))]
        complaints = {
            generation: [difference(one, other) for one, other in zip(found, answers, strict=True)]
            for generation, answers in expected.items()
        }
        return None if any(not any(own) for own in complaints.values()) else f"not of one generation: {complaints}"

    return Case(f"generations {generations}", document("/predict", options, **AUTHORIZATION), check=check)


def _answers(images: np.ndarray, generation: int) -> list[np.ndarray]:
    """Return the answer's probabilities and those of each member."""
    members = [probabilities(images, [name], [1.0], "logits", generation) for name in _MEMBERS]
    return [probabilities(images, list(_MEMBERS), [0.5, 0.5], "probabilities", generation), *members]


def _of_member(reply: Reply, index: int) -> np.ndarray:
    rows = []
    for entry in reply.json()["predictions"]:
        member = {label["label"]: label["probability"] for label in entry["members"][index]["labels"]}
        rows.append([member[label] for label in LABELS])
    return np.array(rows)
