"""A deployed network in fewer bits: fp16, or int8 by static quantisation. Made by ONNX Runtime's own tools.

Both begin and end in float32: pixels are scaled and normalised, and logits become probabilities, as in the float graph.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from subspace_serve.errors import ExportError, reason_of
from subspace_serve.network.skeleton import IMAGE, LOGITS
from subspace_serve.packages import is_installed

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Precision = Literal["fp16", "int8"]

SCHEME = "QDQ, activations uint8, weights int8 per channel in 7 bits"
"""How int8 graphs are quantised.

Without VNNI, x86 processors add products of uint8 and int8 in pairs in 16 bits, which saturate for weights of 8 bits
and not for weights of 7. Quantising activations to int8 instead avoids that too, and is slower than float32 there.
"""

_WITH_WEIGHTS = ("Conv", "Gemm", "MatMul")
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


@dataclass(frozen=True)
class ReducedGraph:
    """An ONNX file in fewer bits; `left_in_float` says how many nodes of which operators compute in float32."""

    data: bytes
    left_in_float: dict[str, int]


def check_tools() -> None:
    """Raise `ExportError` where what makes graphs of fewer bits is not installed."""
    if not is_installed("onnx"):
        raise ExportError(
            "graphs in fp16 and int8 are made with the package onnx, which is not installed; install "
            "subspace-serve[train], or export in float32"
        )


def reduce_graph(graph: bytes, precision: Precision, calibration: Iterable[np.ndarray]) -> ReducedGraph:
    """Return a float graph in fewer bits; its inputs and outputs stay as they are.

    Args:
        graph: the float32 ONNX file, as `ServedGraph.file` writes it.
        precision: `fp16` for half-precision floats; `int8` for quantisation as `SCHEME` says.
        calibration: batches of images in the graph's input format, which give int8 the ranges of its activations
            (smallest and largest value); fp16 takes none.

    Raises:
        ExportError: the package onnx is not installed, or the tools cannot convert the graph.
    """
    check_tools()
    with tempfile.TemporaryDirectory() as folder, _quiet():
        try:
            model = _folded(graph, Path(folder))
            convert = _halved if precision == "fp16" else _quantised
            converted = convert(model, calibration, Path(folder))
        except Exception as error:  # the tools' errors have no common base
            raise ExportError(
                f"the graph cannot be converted to {precision} ({reason_of(error)}); export in float32"
            ) from error
    _keep_used_opsets(converted)
    return ReducedGraph(converted.SerializeToString(), _left_in_float(converted, precision))


def instructions() -> tuple[str, ...]:
    """Return those of this processor's instruction sets that decide how int8 is computed; none where unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ()
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "").split()
    return tuple(name for name in _INSTRUCTIONS if name in flags)


def _folded(graph: bytes, folder: Path) -> ModelProto:
    """Return the graph with BatchNorm folded into convolutions, shapes inferred, and a name for every node."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    whole, file = folder / "whole.onnx", folder / "folded.onnx"
    whole.write_bytes(graph)
    quant_pre_process(whole, file, skip_symbolic_shape=True)
    model = onnx.load(file)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return model


def _halved(model: ModelProto, calibration: Iterable[np.ndarray], folder: Path) -> ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    halved = OnnxModel(convert_float_to_float16(model, keep_io_types=True, node_block_list=_edges(model)))
    # On its way to the nodes that stay in float32 a value is cast to fp16 and back, which would round pixels.
    halved.remove_cascaded_cast_nodes()
    halved.remove_useless_cast_nodes()
    halved.topological_sort()
    sorted_model: ModelProto = halved.model
    return sorted_model


def _quantised(model: ModelProto, calibration: Iterable[np.ndarray], folder: Path) -> ModelProto:
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(calibration)

        def get_next(self) -> Any:
            batch = next(self._batches, None)
            return None if batch is None else {IMAGE: np.ascontiguousarray(batch)}

    file = folder / "quantised.onnx"
    # The layer that gives the logits is a thousandth of the work, and 256 levels would show in the probabilities.
    last = [node.name for node in model.graph.node if LOGITS in node.output]
    quantization.quantize_static(
        model,
        file,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=[*_edges(model), *last],
    )
    return onnx.load(file)


def _edges(model: ModelProto) -> list[str]:
    """Return the nodes that stay in float32: those before the first layer with weights, and those after the logits."""
    nodes = list(model.graph.node)
    outside = {output for node in nodes for output in node.output}
    before, after = {IMAGE}, {LOGITS}
    found = []
    for node in nodes:
        computed = {name for name in node.input if name in outside or name == IMAGE}
        if node.op_type not in _WITH_WEIGHTS and computed and computed <= before:
            before.update(node.output)
            found.append(node.name)
        elif computed and computed <= after:
            after.update(node.output)
            found.append(node.name)
    return found


def _left_in_float(model: ModelProto, precision: Precision) -> dict[str, int]:
    """Return how many nodes of which operators compute in float32 although the others do not."""
    from onnx import TensorProto

    nodes = list(model.graph.node)
    if precision == "fp16":
        halves = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
        for node in nodes:
            to = [attribute.i for attribute in node.attribute if attribute.name == "to"]
            half = to == [TensorProto.FLOAT16] if node.op_type == "Cast" else not halves.isdisjoint(node.input)
            halves.update(node.output if half else [])
        left = [node for node in nodes if node.op_type != "Cast" and halves.isdisjoint(node.input)]
    else:
        made_by = {output: node.op_type for node in nodes for output in node.output}
        left = [node for node in nodes if not _is_quantised(node, made_by)]
    return dict(sorted(Counter(node.op_type for node in left).items()))


def _is_quantised(node: NodeProto, made_by: dict[str, str]) -> bool:
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return True
    return any(made_by.get(name) == "DequantizeLinear" for name in node.input)


def _keep_used_opsets(model: ModelProto) -> None:
    """Leave out the operator sets that ONNX Runtime declares and the graph does not use."""
    used = {node.domain for node in model.graph.node} | {""}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tools from logging advice about what was done already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
