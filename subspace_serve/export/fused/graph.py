"""One ONNX graph that answers as a model of a bundle does: its members' networks, side by side, and a head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, checker, compose, external_data_helper, helper, inliner

from subspace_serve import __version__
from subspace_serve.bundle.fused import output_shapes
from subspace_serve.bundle.manifest import Input
from subspace_serve.bundle.selection import Selection
from subspace_serve.errors import BundleError, reason_of
from subspace_serve.export.fused.head import OPSET, build_head, member_logits

LARGEST_FILE = 2_000_000_000
"""The limit for a graph with its weights, in bytes; protobuf's own is 2 GiB."""

_ELEMENT_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


def fuse(
    name: str,
    files: Mapping[str, Path],
    selection: Selection,
    *,
    input: Input,
    classes: int,
    properties: Mapping[str, str] | None = None,
) -> ModelProto:
    """Return the graph of a point or an ensemble: one input, shared by the members, and the service's outputs.

    Args:
        name: of the graph.
        files: ONNX files of the members by name; each takes `input` and gives `logits`.
        selection: the members, their weights, what is averaged, and the temperature.
        input: what the graph takes.
        classes: how many logits each member gives.
        properties: facts about the model, kept in the graph's metadata.

    Raises:
        BundleError: the graphs are together too large for one file, cannot be joined, or the whole is not valid.
    """
    size = sum(files[member].stat().st_size for member in selection.names)
    if size > LARGEST_FILE:
        raise BundleError(
            f"{name} would be one ONNX file of {size / 1e9:.2f} GB and such a file holds at most "
            f"{LARGEST_FILE / 1e9:.0f} GB; make it an ensemble of fewer members"
        )
    nodes: list[NodeProto] = []
    initializers: list[TensorProto] = []
    opsets: dict[str, int] = {}
    ir_version = 0
    for member in selection.names:
        model = _load(files[member])
        _check_input(model, input, files[member])
        _merge_opsets(opsets, model, files[member])
        ir_version = max(ir_version, model.ir_version)
        prefix = member_logits(member).removesuffix("logits")
        # Weights are renamed explicitly: `add_prefix_graph` handles branches, which use them, before it renames them.
        renamed = {tensor.name: prefix + tensor.name for tensor in model.graph.initializer}
        compose.add_prefix_graph(model.graph, prefix, inplace=True, name_map=renamed)
        nodes += [helper.make_node("Identity", [input.name], [prefix + input.name]), *model.graph.node]
        initializers += model.graph.initializer
    head_nodes, constants = build_head(selection)
    graph = helper.make_graph(
        nodes + head_nodes,
        name,
        [helper.make_tensor_value_info(input.name, _ELEMENT_TYPES[input.dtype], ["batch", *input.shape])],
        [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *shape])
            for output, shape in output_shapes(selection, classes).items()
        ],
        initializers + constants,
    )
    fused = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        ir_version=ir_version,
        producer_name="subspace-serve",
        producer_version=__version__,
    )
    helper.set_model_props(fused, dict(properties or {}))
    _check(fused)
    return fused


def _load(file: Path) -> ModelProto:
    """Read a graph without its exporter's notes about source files."""
    try:
        model = onnx.load(file, load_external_data=False)
        model = inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:  # protobuf's and onnx's errors have no common base
        raise BundleError(f"{file} cannot be read as an ONNX graph ({error}); export the bundle again") from None
    for graph in _graphs(model.graph):
        if graph.sparse_initializer or any(map(external_data_helper.uses_external_data, graph.initializer)):
            raise BundleError(f"{file} has sparse weights, or weights in other files; export the bundle again")
        for part in (*graph.node, *graph.initializer):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
    return model


def _check_input(model: ModelProto, input: Input, file: Path) -> None:
    """Refuse a member that takes something else than the others: one input is shared by all."""
    tensors = {value.name: value.type.tensor_type for value in model.graph.input}
    found = {
        name: (tensor.elem_type, tuple(size.dim_value for size in tensor.shape.dim)) for name, tensor in tensors.items()
    }
    if found != {input.name: (_ELEMENT_TYPES[input.dtype], (0, *input.shape))}:
        raise BundleError(
            f"{file} takes {found} and the members of one graph share the input {input.name}, {input.dtype} of shape "
            f"(batch, {', '.join(map(str, input.shape))}); fuse members that were exported with one --input"
        )


def _merge_opsets(opsets: dict[str, int], model: ModelProto, file: Path) -> None:
    for opset in model.opset_import:
        known = opsets.setdefault(opset.domain, opset.version)
        if known != opset.version:
            raise BundleError(
                f"{file} has version {opset.version} of the operators {opset.domain or 'ai.onnx'}, another member "
                f"version {known}; export all points again with one version of subspace-serve"
            )
    if opsets.get("", 0) < OPSET:
        raise BundleError(
            f"{file} has ONNX opset {opsets.get('', 0)}, and joining graphs takes {OPSET} or newer; export it again"
        )


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and the graphs within its nodes (branches, bodies of loops)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _check(model: ModelProto) -> None:
    try:
        checker.check_model(model, full_check=True)
    except Exception as error:  # the checker's and shape inference's errors have no common base
        raise BundleError(
            f"the graphs of {model.graph.name} cannot be joined to one ({reason_of(error)}); nothing was written"
        ) from None
