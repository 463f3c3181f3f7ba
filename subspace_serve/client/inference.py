"""Answers that came as tensors of the Open Inference Protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subspace_serve.client.answers import Answer, Label, MemberPrediction, Prediction, set_of
from subspace_serve.client.catalogue import Catalogue, Place, place_of
from subspace_serve.client.errors import UnexpectedAnswer
from subspace_serve.client.wire import Inferred, Options


class OutdatedError(UnexpectedAnswer):
    """An answer from another bundle than the one in the catalogue."""


def asked_model(options: Options, catalogue: Catalogue) -> tuple[str, bool] | None:
    """Return the model to name in the path, and whether an ensemble answers; None for what the protocol cannot express.

    It cannot express members without a model, nor a domain without one; but the domain's point, if there is one,
    answers the same.
    """
    if options.alpha is not None:
        return catalogue.default, False  # it has no effect, but the path needs one
    model = options.model
    if model is None:
        if options.members is not None:
            return None
        model = catalogue.default if options.domain is None else catalogue.point_of(options.domain)
    return None if model is None else (model, catalogue.is_ensemble(model))


def asked_outputs(options: Options, ensemble: bool) -> dict[str, dict[str, Any]]:
    """Return the tensors to ask for, with their parameters."""
    # Class names come with the answer, so that they are those of the bundle that gave it.
    outputs: dict[str, dict[str, Any]] = {
        "probabilities": {},
        "logits": {"classification": options.top_k},
        "entropy": {},
    }
    if ensemble:
        outputs |= {"mutual_information": {}, "disagreement": {}}
        if options.return_members:
            outputs["member_probabilities"] = {}
    return outputs


def answer_of(inferred: Inferred, options: Options, catalogue: Catalogue, request_id: str | None) -> Answer:
    """Return tensors as an answer; the catalogue gives the class names for the members' predictions.

    Raises `OutdatedError` where its labels are not the server's, and `KeyError`, `TypeError`, `ValueError` or
    `IndexError` for other tensors.
    """
    parameters, outputs = inferred.parameters, inferred.outputs
    members = tuple(map(place_of, json.loads(parameters["members"])))
    # Where a place was asked for, the path's model means nothing: the only member is a point, or the place itself.
    model = inferred.model if options.alpha is None or isinstance(members[0], str) else None
    probabilities = outputs["probabilities"]
    sets = json.loads(parameters.get("sets", "null")) or [None] * len(probabilities)
    abstained = json.loads(parameters.get("abstained", "null")) or [None] * len(probabilities)
    predictions = []
    for row, classes in enumerate(outputs["logits"]):
        labels = []
        for text in classes:
            _, index, label = text.split(":", 2)
            labels.append(Label(label, int(index), float(probabilities[row, int(index)])))
        own: tuple[MemberPrediction, ...] = ()
        if options.return_members:
            _check_labels(labels, catalogue)
            each = outputs["member_probabilities"][row]
            own = tuple(
                _member(name, each[place], catalogue.labels, options.top_k) for place, name in enumerate(members)
            )
        predictions.append(
            Prediction(
                labels=tuple(labels),
                entropy=float(outputs["entropy"][row]),
                mutual_information=_number(outputs, "mutual_information", row),
                disagreement=_number(outputs, "disagreement", row),
                members=own,
                set=set_of(sets[row]),
                abstained=abstained[row],
            )
        )
    return Answer(
        model=model,
        members=members,
        weights=tuple(json.loads(parameters["weights"])),
        aggregate=parameters.get("aggregate"),
        temperature=parameters["temperature"],
        predictions=tuple(predictions),
        alpha=place_of(json.loads(parameters.get("alpha", "null"))),
        statistics=parameters.get("statistics"),
        request_id=request_id,
        missing=json.loads(parameters.get("missing", "{}")),
        set_reason=parameters.get("set_reason"),
        abstained_reason=parameters.get("abstained_reason"),
        probabilities=probabilities,
    )


def _number(outputs: Mapping[str, Any], name: str, row: int) -> float | None:
    return float(outputs[name][row]) if name in outputs else None


def _check_labels(labels: Sequence[Label], catalogue: Catalogue) -> None:
    if any(label.index >= len(catalogue.labels) or catalogue.labels[label.index] != label.label for label in labels):
        raise OutdatedError("the server's labels are not those that it lists; ask again")


def _member(name: str | Place, probabilities: np.ndarray, labels: Sequence[str], top_k: int) -> MemberPrediction:
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    positive = probabilities[probabilities > 0]
    return MemberPrediction(
        name,
        tuple(Label(labels[index], int(index), float(probabilities[index])) for index in order),
        float(-(positive * np.log(positive)).sum()),
    )
