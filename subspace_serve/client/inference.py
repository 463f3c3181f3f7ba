"""Answers that came as tensors of the Open Inference Protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subspace_serve.client.answers import Answer, Label, MemberPrediction, Prediction
from subspace_serve.client.catalogue import Catalogue
from subspace_serve.client.errors import UnexpectedAnswer
from subspace_serve.client.wire import Inferred, Options


class OutdatedError(UnexpectedAnswer):
    """An answer by another bundle than the catalogue is of."""


def asked_model(options: Options, catalogue: Catalogue) -> tuple[str, bool]:
    """Return the model that is to answer, and whether it is an ensemble."""
    model = catalogue.default if options.model is None else options.model
    return model, options.alpha is None and catalogue.is_ensemble(model)


def asked_outputs(options: Options, ensemble: bool) -> dict[str, dict[str, Any]]:
    """Return the tensors to ask for, with their parameters."""
    # The classes by name come with the answer, so that they are those of the bundle that gave it.
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
    """Return tensors as an answer; the catalogue names the members' classes.

    Raises `OutdatedError` where it cannot, and `KeyError`, `TypeError`, `ValueError` or `IndexError` for other tensors.
    """
    parameters, outputs = inferred.parameters, inferred.outputs
    members = tuple(json.loads(parameters["members"]))
    probabilities = outputs["probabilities"]
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
            )
        )
    return Answer(
        model=inferred.model,
        members=members,
        weights=tuple(json.loads(parameters["weights"])),
        aggregate=parameters.get("aggregate"),
        temperature=parameters["temperature"],
        predictions=tuple(predictions),
        request_id=request_id,
        missing=json.loads(parameters.get("missing", "{}")),
        probabilities=probabilities,
    )


def _number(outputs: Mapping[str, Any], name: str, row: int) -> float | None:
    return float(outputs[name][row]) if name in outputs else None


def _check_labels(labels: Sequence[Label], catalogue: Catalogue) -> None:
    if any(label.index >= len(catalogue.labels) or catalogue.labels[label.index] != label.label for label in labels):
        raise OutdatedError("the server's labels are not those that it lists; ask again")


def _member(name: str, probabilities: np.ndarray, labels: Sequence[str], top_k: int) -> MemberPrediction:
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    positive = probabilities[probabilities > 0]
    return MemberPrediction(
        name,
        tuple(Label(labels[index], int(index), float(probabilities[index])) for index in order),
        float(-(positive * np.log(positive)).sum()),
    )
