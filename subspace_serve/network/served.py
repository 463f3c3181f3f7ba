"""One network as the ONNX file that is deployed: pixels in, logits and probabilities out."""

from __future__ import annotations

from typing import Literal

import numpy as np

from subspace_serve.network.network import Network
from subspace_serve.network.onnx_file import FLOAT, UINT8, Model, Node, Tensor, integer, value_info
from subspace_serve.network.skeleton import IMAGE, LOGITS, SCALE
from subspace_serve.network.statistics import Statistics

PROBABILITIES = "probabilities"
InputType = Literal["uint8", "float"]


def served_file(
    network: Network,
    weights: np.ndarray,
    statistics: Statistics,
    *,
    shape: tuple[int, int, int],
    classes: int,
    input_type: InputType = "uint8",
) -> bytes:
    """Return a network as an ordinary ONNX file with a dynamic batch.

    Args:
        network: the subspace.
        weights: the network's parameters, float32 (n,).
        statistics: of its BatchNorm layers.
        shape: height, width and channels of an image.
        classes: how many logits there are.
        input_type: `uint8` for pixels (N, H, W, C), `float` for float32 (N, C, H, W) in [0, 1].
    """
    model = Model.parse(network.onnx(weights, statistics))
    height, width, channels = shape
    if input_type == "float":
        _take_floats(model)
        model.inputs = [value_info(IMAGE, FLOAT, ["batch", channels, height, width])]
    else:
        model.inputs = [value_info(IMAGE, UINT8, ["batch", height, width, channels])]
    model.nodes.append(Node("Softmax", [LOGITS], [PROBABILITIES], {"axis": integer("axis", 1)}))
    model.outputs = [value_info(name, FLOAT, ["batch", classes]) for name in (LOGITS, PROBABILITIES)]
    return model.encoded()


def as_served(pixels: np.ndarray, input_type: InputType) -> np.ndarray:
    """Return uint8 pixels (N, H, W, C) as such a graph takes them."""
    if input_type == "uint8":
        return pixels
    scaled: np.ndarray = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) / np.float32(255)
    return scaled


def _take_floats(model: Model) -> None:
    """Let the graph begin at its normalisation, with pixels that are scaled to [0, 1]."""
    scaling = next(node for node in model.nodes if SCALE in node.inputs)
    scaling.inputs = [IMAGE if name != SCALE else name for name in scaling.inputs]
    model.tensors = [_times_255(tensor) if tensor.name == SCALE else tensor for tensor in model.tensors]
    # What brought pixels into that form before is needed no more.
    while unused := [node for node in model.nodes if not _is_needed(node, model)]:
        model.nodes = [node for node in model.nodes if node not in unused]


def _times_255(tensor: Tensor) -> Tensor:
    numbers = np.frombuffer(tensor.raw or b"", "<f4") * np.float32(255)
    return Tensor(tensor.name, tensor.type, tensor.shape, raw=numbers.astype("<f4").tobytes())


def _is_needed(node: Node, model: Model) -> bool:
    used = {name for other in model.nodes for name in other.inputs} | {LOGITS}
    return not used.isdisjoint(node.outputs)
