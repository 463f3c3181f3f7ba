"""Bundles with points that are slow, that cannot take some images, or that answer them with NaN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from bundle_factory import CHANNELS, HEIGHT, LABELS, SHAPES, WIDTH, input_of, linear_graph
from onnx import TensorProto, helper, numpy_helper

from subspace_serve.bundle import Onnx, Parity, Source, write_bundle

SPOILT = 255
"""The first number of an image that is spoilt; see `Kind`."""

_PIXELS = HEIGHT * WIDTH * CHANNELS
_SIDE = 384  # of the matrices that slow points multiply
_ENDLESS = 1_000_000  # products; some minutes
_POINTS = {"first": 0.0, "second": 1.0, "third": 0.25}


@dataclass(frozen=True)
class Kind:
    """What is wrong with a point: matrix products slow it down; a spoilt image has other consequences."""

    spoilt: Literal["answered as any", "answered with NaN", "a failure", "endless"] = "answered as any"
    products: int = 0


def point_weights(name: str, generation: int = 0) -> np.ndarray:
    """Return a point's (pixels, classes) float32 matrix; each generation of a bundle has others."""
    random = np.random.default_rng([list(_POINTS).index(name), generation])
    return random.normal(0, 3 / np.sqrt(_PIXELS), (_PIXELS, len(LABELS))).astype(np.float32)


def point_logits(name: str, images: np.ndarray, generation: int = 0) -> np.ndarray:
    """Return (N, classes) float64 logits of uint8 images (N, height, width, channels), computed by numpy."""
    pixels = images.reshape(len(images), -1).astype(np.float64) / 255
    return pixels @ point_weights(name, generation).astype(np.float64)


def sound_images(count: int, seed: int = 0) -> np.ndarray:
    """Return (count, height, width, channels) uint8 images that spoil nothing."""
    return np.random.default_rng(seed).integers(0, SPOILT, (count, *SHAPES["uint8"]), dtype=np.uint8)


def write(target: Path, kinds: Mapping[str, Kind] | None = None, *, generation: int = 0) -> Path:
    """Write a bundle of three points, by default all sound, and the ensembles `pair` and `all`; return its folder."""
    source = Source(checkpoint_sha256="0" * 64, geometry="line", architecture={"name": "linear"})
    parity = Parity(provider="CPUExecutionProvider", max_abs_diff=0.0, top1_flips=0, tolerance=1e-4)
    images = sound_images(4, seed=1)
    with write_bundle(
        target, source=source, input=input_of(), labels=LABELS, onnx=Onnx(opset=20, exporter="onnx.helper")
    ) as bundle:
        for name, alpha in _POINTS.items():
            onnx.save(_graph(name, (kinds or {}).get(name, Kind()), generation), bundle.file(name))
            bundle.add_point(
                name, alpha=alpha, coefficients=[1 - alpha, alpha], calibration=None, parity=parity, metrics={}
            )
        bundle.add_ensemble("pair", members=["first", "second"])
        bundle.add_ensemble("all", members=list(_POINTS), weights=[2, 1, 1], aggregate="logits")
        bundle.set_golden(images, {name: point_logits(name, images, generation) for name in _POINTS})
    return target


def _graph(name: str, kind: Kind, generation: int) -> onnx.ModelProto:
    model = linear_graph(point_weights(name, generation))
    if kind != Kind():
        _add_test(model.graph)
    if kind.spoilt in ("answered with NaN", "a failure"):
        _add_spoiling(model.graph, kind.spoilt)
    if kind.products or kind.spoilt == "endless":
        _add_products(model.graph, kind.products, kind.spoilt == "endless")
    return model


def _add_spoiling(graph: onnx.GraphProto, how: str) -> None:
    """Where the first number is 255, add NaN to an image's logits, or look up a row that a table does not have."""
    constants: dict[str, np.ndarray] = {}
    if how == "answered with NaN":
        constants |= {"nan": np.float32(np.nan), "nothing": np.float32(0)}
        graph.node.append(helper.make_node("Where", ["is-spoilt", "nan", "nothing"], ["spoiling"]))
    else:
        constants["table"] = np.zeros(1, dtype=np.float32)
        graph.node.append(helper.make_node("Cast", ["is-spoilt"], ["row"], to=TensorProto.INT64))
        graph.node.append(helper.make_node("Gather", ["table", "row"], ["spoiling"]))
    _add_to_logits(graph, "spoiling", constants)


def _add_test(graph: onnx.GraphProto) -> None:
    """Add `is-spoilt` (N, 1): whether an image's first number is 255."""
    graph.node.extend(
        [
            helper.make_node("Flatten", ["cast"], ["numbers"], axis=1),
            helper.make_node("Gather", ["numbers", "zeroth"], ["first-number"], axis=1),
            helper.make_node("Equal", ["first-number", "spoilt"], ["is-spoilt"]),
        ]
    )
    graph.initializer.extend(
        [numpy_helper.from_array(np.array([0]), "zeroth"), numpy_helper.from_array(np.float32(SPOILT), "spoilt")]
    )


def _add_products(graph: onnx.GraphProto, count: int, endless: bool) -> None:
    """Multiply matrices for a while, for minutes where an image is spoilt, and add 0 times the result to the logits."""
    constants: dict[str, np.ndarray] = {
        "square": np.full((_SIDE, _SIDE), 1 / _SIDE, dtype=np.float32),
        "naught": np.float32(0),
        "times": np.int64(count),
        "more": np.int64(_ENDLESS if endless else 0),
        "go-on": np.bool_(True),
    }
    matrix = [_SIDE, _SIDE]
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "square"], ["after"]),
            helper.make_node("Identity", ["condition"], ["same-condition"]),
        ],
        "product",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, matrix),
        ],
        [
            helper.make_tensor_value_info("same-condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, matrix),
        ],
    )
    graph.node.extend(
        [
            helper.make_node("Cast", ["is-spoilt"], ["each-spoilt"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["each-spoilt"], ["one-spoilt"], keepdims=0),
            helper.make_node("Mul", ["one-spoilt", "more"], ["extra"]),
            helper.make_node("Add", ["times", "extra"], ["trips"]),
            helper.make_node("Loop", ["trips", "go-on", "square"], ["product"], body=body),
            helper.make_node("ReduceMean", ["product"], ["mean-of-product"], keepdims=0),
            helper.make_node("Mul", ["mean-of-product", "naught"], ["slowing"]),
        ]
    )
    _add_to_logits(graph, "slowing", constants)


def _add_to_logits(graph: onnx.GraphProto, term: str, constants: Mapping[str, np.ndarray]) -> None:
    """Let the logits have one more term; nodes stay in the order in which they can run."""
    (logits,) = (node for node in graph.node if list(node.output) == ["logits"])
    softmax = next(node for node in graph.node if node.op_type == "Softmax")
    logits.output[0] = f"without-{term}"
    graph.node.remove(softmax)
    graph.node.append(helper.make_node("Add", [f"without-{term}", term], ["logits"]))
    graph.node.append(softmax)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
