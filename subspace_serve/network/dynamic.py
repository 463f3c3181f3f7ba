"""A whole subspace as one ONNX graph with two inputs, pixels and alpha: weights and statistics are mixed inside.

For runtimes that cannot build a session from a skeleton, such as a browser's. The operators are those that every
runtime has. Outside its domain alpha is brought back into it: a number is clipped to [0, 1], and of a simplex's numbers
negative ones count as 0 and all are divided by their sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from subspace_serve.network.network import Network
from subspace_serve.network.onnx_file import FLOAT, INT64, Model, Node, Tensor, integer, value_info
from subspace_serve.network.served import InputType, ServedGraph
from subspace_serve.network.skeleton import PARAMETERS, PREPROCESSING, STATISTICS, with_numbers
from subspace_serve.network.statistics_set import StatisticsSet
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.lattice import Degree, Lattice

ALPHA = "alpha"


def dynamic_graph(network: Network, statistics: StatisticsSet, input_type: InputType = "uint8") -> bytes:
    """Return a subspace as one ONNX file with the inputs `image` and `alpha`, float32 (1,) or (endpoints,).

    Args:
        network: the subspace; it has two endpoints or more.
        statistics: BatchNorm's, at its knots.
        input_type: what `image` is, as in `ServedGraph`.
    """
    served = ServedGraph(network, input_type)
    model = served.model()
    graph = _Graph()
    coefficients, coordinates = _places(graph, network.geometry)
    _mix_parameters(graph, model, network, coefficients)
    _mix_statistics(graph, model, statistics, coordinates)
    model.nodes = graph.nodes + model.nodes
    model.tensors = [tensor for tensor in model.tensors if tensor.location not in (PARAMETERS, STATISTICS)]
    model.tensors += graph.tensors
    size = network.geometry.endpoints if network.geometry.barycentric else 1
    model.inputs.append(value_info(ALPHA, FLOAT, [size]))
    return with_numbers(model, {PREPROCESSING: served.normalisation()})


def _places(graph: _Graph, geometry: Geometry) -> tuple[str, str]:
    """Return the endpoints' coefficients (endpoints,) and the barycentric coordinates (sides,) at alpha."""
    one = graph.constant("one", [1.0])
    if geometry.barycentric:
        positive = graph.add("Relu", ALPHA)
        place = graph.add("Div", positive, graph.add("ReduceSum", positive))
        return place, place
    inside = graph.add("Clip", ALPHA, graph.constant("zero", 0.0), graph.constant("whole", 1.0))
    rest = graph.add("Sub", one, inside)
    coordinates = graph.add("Concat", rest, inside, axis=0)
    if geometry.name == "line":
        return coordinates, coordinates
    bend = graph.add("Mul", graph.constant("two", [2.0]), graph.add("Mul", inside, rest))
    squares = [graph.add("Mul", part, part) for part in (rest, inside)]
    return graph.add("Concat", *squares, bend, axis=0), coordinates


def _mix_parameters(graph: _Graph, model: Model, network: Network, coefficients: str) -> None:
    mixed = graph.add("MatMul", coefficients, graph.constant("endpoints", network.endpoints))
    graph.divide(mixed, [tensor for tensor in model.tensors if tensor.location == PARAMETERS])


def _mix_statistics(graph: _Graph, model: Model, statistics: StatisticsSet, coordinates: str) -> None:
    """Interpolate BatchNorm's statistics between knots, as `StatisticsSet.at` does."""
    tensors = [tensor for tensor in model.tensors if tensor.location == STATISTICS]
    if not tensors:
        return
    values = statistics.values
    knots = graph.constant("knots", values)
    row = graph.add("MatMul", _knot_weights(graph, statistics.lattice, 1, coordinates), knots)
    if statistics.degree == 2:
        quadratic = graph.add("MatMul", _knot_weights(graph, statistics.lattice, 2, coordinates), knots)
        bounded = graph.add("Max", quadratic, graph.constant("least", values.min(axis=0)))
        # Of two summands one is always 0, which is exact.
        variances = graph.constant("variances", statistics.variances)
        means = graph.constant("means", ~statistics.variances)
        row = graph.add("Add", graph.add("Mul", bounded, variances), graph.add("Mul", row, means))
    graph.divide(row, tensors)


def _knot_weights(graph: _Graph, lattice: Lattice, degree: Degree, coordinates: str) -> str:
    """Return the weight of each knot at the place (knots,): `Lattice.weights`, by the formula of `Lattice.hats`."""
    corners, lower, upper = lattice.hats(degree)
    sides = corners.shape[1] + 1
    cumulative = lattice.parts // degree * np.tri(sides, sides - 1, -1)
    sums = graph.add("MatMul", coordinates, graph.constant(f"cumulative_{degree}", cumulative))
    beyond = graph.add("Sub", sums, graph.constant(f"corners_{degree}", corners))
    distances = [
        graph.add("ReduceMax", graph.add("Relu", part), graph.axis(1), keepdims=0)
        for part in (beyond, graph.add("Neg", beyond))
    ]
    near = graph.add("Sub", graph.constant("one", [1.0]), graph.add("Add", *distances))
    hats = graph.add("Relu", near)
    if degree == 1:
        return hats
    pairs = [
        graph.add("Gather", hats, graph.integers(name, rows)) for name, rows in (("lower", lower), ("upper", upper))
    ]
    same = lower == upper
    product = graph.add("Mul", graph.add("Mul", *pairs), graph.constant("factors", np.where(same, 2, 4)))
    return graph.add("Sub", product, graph.add("Mul", pairs[0], graph.constant("at_corners", same)))


class _Graph:
    """Collects nodes and constants; `add` returns the name of what a node gives."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._constants: dict[str, Tensor] = {}

    @property
    def tensors(self) -> list[Tensor]:
        return list(self._constants.values())

    def constant(self, name: str, values: float | Sequence[float] | np.ndarray) -> str:
        array = np.asarray(values, dtype="<f4")
        return self._keep(Tensor(f"{ALPHA}/{name}", FLOAT, array.shape, raw=array.tobytes()))

    def integers(self, name: str, values: Sequence[int] | np.ndarray) -> str:
        array = np.asarray(values, dtype="<i8")
        return self._keep(Tensor(f"{ALPHA}/{name}", INT64, array.shape, raw=array.tobytes()))

    def axis(self, axis: int) -> str:
        return self.integers(f"axis_{axis}", [axis])

    def add(self, operator: str, *inputs: str, to: Sequence[str] = (), **attributes: int) -> str:
        outputs = list(to) or [f"{ALPHA}/{operator}_{len(self.nodes)}"]
        encoded = {name: integer(name, value) for name, value in attributes.items()}
        self.nodes.append(Node(operator, list(inputs), outputs, encoded))
        return outputs[0]

    def divide(self, vector: str, tensors: Sequence[Tensor]) -> None:
        """Divide a flat vector into tensors, which get their names; they lie in it one after another."""
        tensors = sorted(tensors, key=lambda tensor: tensor.offset)
        sizes = [int(np.prod(tensor.shape, dtype=np.int64)) for tensor in tensors]
        flat = [tensor.name if len(tensor.shape) == 1 else f"{ALPHA}/{tensor.name}" for tensor in tensors]
        self.add("Split", vector, self.integers(f"sizes_{len(self.nodes)}", sizes), to=flat, axis=0)
        for tensor, name in zip(tensors, flat, strict=True):
            if len(tensor.shape) != 1:
                shape = self.integers(f"shape_{'x'.join(map(str, tensor.shape))}", tensor.shape)
                self.add("Reshape", name, shape, to=[tensor.name])

    def _keep(self, tensor: Tensor) -> str:
        self._constants[tensor.name] = tensor
        return tensor.name
