"""Tiny bundles without torch: each point is a linear classifier over pixels, so that numpy knows every answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from subspace_serve.bundle import Input, Onnx, Parity, Preprocessing, Source, write_bundle

HEIGHT, WIDTH, CHANNELS = 4, 5, 3
LABELS = ("zero", "one", "two", "three")
POINTS = {"midpoint": 0.5, "endpoint-0": 0.0, "endpoint-1": 1.0}
SHAPES = {"uint8": (HEIGHT, WIDTH, CHANNELS), "float32": (CHANNELS, HEIGHT, WIDTH)}


def point_weights(name: str) -> np.ndarray:
    """Return a point's (pixels, classes) float32 matrix; the midpoint's is the mean of the endpoints'."""
    if name == "midpoint":
        return (point_weights("endpoint-0") + point_weights("endpoint-1")) / 2
    random = np.random.default_rng(int(name[-1]))
    return random.normal(0, 3 / np.sqrt(HEIGHT * WIDTH * CHANNELS), (HEIGHT * WIDTH * CHANNELS, len(LABELS))).astype(
        np.float32
    )


def expected_logits(name: str, images: np.ndarray) -> np.ndarray:
    """Return (N, classes) float64 logits computed by numpy."""
    scale = 255 if images.dtype == np.uint8 else 1
    pixels = images.reshape(len(images), -1).astype(np.float64) / scale
    return pixels @ point_weights(name).astype(np.float64)


def random_images(count: int, seed: int = 0, dtype: str = "uint8") -> np.ndarray:
    """Return (count, ...) images in the input format of `dtype`."""
    random = np.random.default_rng(seed)
    if dtype == "uint8":
        return random.integers(0, 256, (count, *SHAPES[dtype]), dtype=np.uint8)
    return random.random((count, *SHAPES[dtype]), dtype=np.float32)


def linear_graph(weights: np.ndarray, dtype: str = "uint8") -> onnx.ModelProto:
    """Return a graph from pixels to `logits` and `probabilities`."""
    element_type = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "scale"], ["scaled"]),
        helper.make_node("Flatten", ["scaled"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    scale = np.float32(1 / 255 if dtype == "uint8" else 1)
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", element_type, ["batch", *SHAPES[dtype]])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", weights.shape[1]])
            for name in ("logits", "probabilities")
        ],
        [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def input_of(height: int = HEIGHT, width: int = WIDTH, channels: int = CHANNELS, dtype: str = "uint8") -> Input:
    """Return how a graph takes images, with a preprocessing that changes nothing."""
    return Input(
        dtype=dtype,
        layout="NHWC" if dtype == "uint8" else "NCHW",
        height=height,
        width=width,
        channels=channels,
        preprocessing=Preprocessing(mean=(0.0,) * channels, std=(1.0,) * channels),
    )


def make_bundle(
    target: Path,
    *,
    dtype: str = "uint8",
    golden_error: float = 0.0,
    temperatures: Mapping[str, float] | None = None,
    promises: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write a bundle of a midpoint, two endpoints and two ensembles of both; return its folder.

    `temperatures` are those of points and ensembles by name; 1 for the others. `promises` are their `sets` and their
    `abstention`, where they have any.
    """
    temperatures, promises = temperatures or {}, promises or {}
    source = Source(checkpoint_sha256="0" * 64, geometry="line", architecture={"name": "linear"})
    images = random_images(6, seed=1, dtype=dtype)
    with write_bundle(
        target, source=source, input=input_of(dtype=dtype), labels=LABELS, onnx=Onnx(opset=20, exporter="onnx.helper")
    ) as bundle:
        for name, alpha in POINTS.items():
            onnx.save(linear_graph(point_weights(name), dtype), bundle.file(name))
            bundle.add_point(
                name,
                alpha=alpha,
                coefficients=[1 - alpha, alpha],
                calibration=None,
                parity=Parity(provider="CPUExecutionProvider", max_abs_diff=0.0, top1_flips=0, tolerance=1e-4),
                metrics={"accuracy": 0.5},
                temperature=temperatures.get(name, 1.0),
                **promises.get(name, {}),
            )
        pair = ["endpoint-0", "endpoint-1"]
        bundle.add_ensemble(
            "endpoints", members=pair, temperature=temperatures.get("endpoints", 1.0), **promises.get("endpoints", {})
        )
        bundle.add_ensemble(
            "leaning",
            members=pair,
            weights=[3, 1],
            aggregate="logits",
            temperature=temperatures.get("leaning", 1.0),
            **promises.get("leaning", {}),
        )
        bundle.set_golden(images, {name: expected_logits(name, images) + golden_error for name in POINTS})
    return target
