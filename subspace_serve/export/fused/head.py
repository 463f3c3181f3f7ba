"""The end of a fused graph, after the members' networks: `combine` of `subspace_serve.bundle.predict` in ONNX.

It computes in float32, which every execution provider has, and with logarithms, so that small probabilities stay
distinct.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from subspace_serve.bundle.selection import Selection

OPSET = 18
"""The first opset in which every reduction used here takes its axes as an input."""

_FLOOR = float(np.log(np.finfo(np.float64).tiny))
"""The lowest logit that the service answers with."""

_NO_WEIGHT = 2 * _FLOOR
"""Stands for the logarithm of a weight of 0: finite, and below every logit."""


def member_logits(member: str) -> str:
    """Return the name of a member's logits (N, classes); none of the head's own names has a slash."""
    return f"{member}/logits"


def build_head(selection: Selection) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return the nodes that turn members' logits into the outputs, and their constants."""
    head = _Head()
    scores = member_logits(selection.names[0]) if selection.aggregate is None else _ensemble(head, selection)
    if selection.temperature != 1:
        if selection.aggregate == "probabilities":
            scores = head.add("Max", scores, head.constant("floor", _FLOOR), to="floored")
        scores = head.add("Div", scores, head.constant("temperature", selection.temperature), to="tempered")
    normalised = head.add("LogSoftmax", scores, to="normalised", axis=-1)
    logits = head.add("Max", normalised, head.constant("floor", _FLOOR), to="logits")
    probabilities = head.add("Exp", logits, to="probabilities")
    head.entropy(probabilities, logits, to="entropy")
    return head.nodes, list(head.constants.values())


def _ensemble(head: _Head, selection: Selection) -> str:
    """Add the outputs that only ensembles have; return the scores whose softmax is the answer at temperature 1."""
    weights = np.asarray(selection.weights)
    weight = head.constant("weight", weights)
    rows = [
        head.add("Unsqueeze", member_logits(member), head.axes(1), to=f"row_{index}")
        for index, member in enumerate(selection.names)
    ]
    logits = head.add("Concat", *rows, to="member_logits", axis=1)  # (N, members, classes)
    members = head.add("LogSoftmax", logits, to="member_logarithms", axis=-1)
    probabilities = head.add("Exp", members, to="member_probabilities")
    mixture = _mixture(head, members, weights)
    mixed = head.add("Exp", mixture, to="mixed")

    own = head.sum(head.add("Mul", head.entropy(probabilities, members), weight), axis=1)
    total = head.entropy(mixed, mixture)
    # Rounding can put members that agree a little below 0.
    head.add("Relu", head.add("Sub", total, own), to="mutual_information")
    difference = head.add("Abs", head.add("Sub", probabilities, head.add("Unsqueeze", mixed, head.axes(1))))
    distances = head.sum(difference, axis=-1)
    head.sum(head.add("Mul", distances, head.constant("half_weight", weights / 2)), axis=1, to="disagreement")

    if selection.aggregate == "probabilities":
        return mixture
    return head.sum(head.add("Mul", logits, head.constant("weight_of_row", weights[:, None])), axis=1, to="mean_logits")


def _mixture(head: _Head, members: str, weights: np.ndarray) -> str:
    """Return the logarithms (N, classes) of the weighted mean of the members' probabilities (N, members, classes)."""
    logarithms = np.log(weights, out=np.full(len(weights), _NO_WEIGHT), where=weights > 0)
    weighted = head.add("Add", members, head.constant("log_weight", logarithms[:, None]))
    greatest = head.add("ReduceMax", weighted, head.axes(1), keepdims=1)
    summed = head.sum(head.add("Exp", head.add("Sub", weighted, greatest)), axis=1)
    return head.add("Add", head.add("Log", summed), head.add("Squeeze", greatest, head.axes(1)), to="mixture")


class _Head:
    """Collects nodes and constants; every method returns the name of what it adds."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def constant(self, name: str, values: float | Sequence[float] | np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(values, dtype=np.float32), name)
        return name

    def axes(self, axis: int) -> str:
        name = f"axis_{axis}".replace("-1", "last")
        self.constants[name] = numpy_helper.from_array(np.asarray([axis], dtype=np.int64), name)
        return name

    def add(self, operator: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        name = to or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"head_{name}", **attributes))
        return name

    def sum(self, values: str, *, axis: int, to: str | None = None) -> str:
        return self.add("ReduceSum", values, self.axes(axis), to=to, keepdims=0)

    def entropy(self, probabilities: str, logarithms: str, *, to: str | None = None) -> str:
        return self.add("Neg", self.sum(self.add("Mul", probabilities, logarithms), axis=-1), to=to)
