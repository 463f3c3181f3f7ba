"""One network as the ONNX file that is deployed: pixels in, logits and probabilities out."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from subspace_serve.network.network import Network
from subspace_serve.network.onnx_file import FLOAT, UINT8, Model, Node, integer, value_info
from subspace_serve.network.skeleton import IMAGE, LOGITS, PREPROCESSING, SCALE, with_numbers
from subspace_serve.network.statistics import Statistics

PROBABILITIES = "probabilities"
InputType = Literal["uint8", "float"]


class ServedGraph:
    """A skeleton with the inputs and outputs of a deployed network; it gets its numbers when it is used.

    Args:
        network: the subspace.
        input_type: `uint8` for pixels (N, H, W, C), `float` for float32 (N, C, H, W) in [0, 1].
    """

    def __init__(self, network: Network, input_type: InputType = "uint8") -> None:
        self._network = network
        self._input_type = input_type
        model = network.skeleton.model()
        model.metadata = {}
        height, width, channels = (network.skeleton.architecture[name] for name in ("height", "width", "channels"))
        if input_type == "float":
            _take_floats(model)
            model.inputs = [value_info(IMAGE, FLOAT, ["batch", channels, height, width])]
        else:
            model.inputs = [value_info(IMAGE, UINT8, ["batch", height, width, channels])]
        model.nodes.append(Node("Softmax", [LOGITS], [PROBABILITIES], {"axis": integer("axis", 1)}))
        model.outputs = [value_info(name, FLOAT, ["batch", network.classes]) for name in (LOGITS, PROBABILITIES)]
        self._data = model.encoded()

    def model(self) -> Model:
        """Return the graph, without its numbers, to be changed."""
        return Model.parse(self._data)

    def normalisation(self) -> np.ndarray:
        """Return the numbers of the graph's normalisation, float32."""
        numbers = self._numbers(self._network.endpoints[0], None)
        return numbers[PREPROCESSING]

    def file(self, weights: np.ndarray, statistics: Statistics) -> bytes:
        """Return one network as an ordinary ONNX file with a dynamic batch."""
        return with_numbers(Model.parse(self._data), self._numbers(weights, statistics))

    def session(self, weights: np.ndarray, statistics: Statistics) -> Any:
        """Return an ONNX Runtime session of one network, which answers as its file does.

        It has no memory arena, since many sessions may be kept at once; that does not make it slower.
        """
        return self._network.session(self._data, self._numbers(weights, statistics), arena=False)

    def _numbers(self, weights: np.ndarray, statistics: Statistics | None) -> dict[str, np.ndarray]:
        numbers = self._network.numbers(weights, statistics)
        if self._input_type == "float":
            # Its pixels are in [0, 1] already, but the graph's normalisation expects bytes.
            scale, shift = np.split(numbers[PREPROCESSING], 2)
            numbers[PREPROCESSING] = np.concatenate([scale * np.float32(255), shift])
        return numbers


def as_served(pixels: np.ndarray, input_type: InputType) -> np.ndarray:
    """Return uint8 pixels (N, H, W, C) as a graph with this input takes them."""
    if input_type == "uint8":
        return pixels
    scaled: np.ndarray = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) / np.float32(255)
    return scaled


def _take_floats(model: Model) -> None:
    """Make the graph begin at its normalisation, with float pixels (N, C, H, W)."""
    scaling = next(node for node in model.nodes if SCALE in node.inputs)
    scaling.inputs = [IMAGE if name != SCALE else name for name in scaling.inputs]
    # Remove the nodes that brought pixels into that form.
    while unused := [node for node in model.nodes if not _is_needed(node, model)]:
        model.nodes = [node for node in model.nodes if node not in unused]


def _is_needed(node: Node, model: Model) -> bool:
    used = {name for other in model.nodes for name in other.inputs} | {LOGITS}
    return not used.isdisjoint(node.outputs)
