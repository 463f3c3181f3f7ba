"""Makes the skeleton of an architecture: its ONNX graph without weights. `trainer.proof` checks it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import onnx_ir as ir
import onnxscript.optimizer
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from subspace_serve.errors import ExportError
from subspace_serve.network.skeleton import (
    FORMAT,
    IMAGE,
    LOGITS,
    PARAMETERS,
    PREPROCESSING,
    SCALE,
    SHIFT,
    STATISTICS,
    VERSION,
    Skeleton,
    external,
    sealed,
)
from subspace_serve.space.architecture import Architecture
from trainer.architectures import build
from trainer.state import Kept, load_kept, trained_parameters

OPSET = 20
_NETWORK = "network."


def skeleton_of(architecture: Architecture, kept: Kept) -> Skeleton:
    """Return an architecture's skeleton, which contains the state that is kept as constants.

    Raises:
        ExportError: the network cannot be exported.
        ArchitectureError: it cannot be built.
        TrainingError: it has no place for the state that is kept.
    """
    generator = torch.get_rng_state()
    try:
        network = load_kept(build(architecture), kept).eval()
    finally:
        torch.set_rng_state(generator)
    model = _traced(_WithPixels(network, architecture.channels), architecture)
    normalisation = (PREPROCESSING, (architecture.channels, 1, 1))
    numbers = _named_numbers(network) | {SCALE: normalisation, SHIFT: normalisation}
    graph = model.graph
    found = {name: value for name, value in graph.initializers.items() if name.removeprefix(_NETWORK) in numbers}
    # Inputs while the graph is simplified, so that nothing that depends on them is folded into a constant. A folded
    # parameter would keep its name and mean something else.
    for name, value in found.items():
        graph.initializers.pop(name)
        value.const_value = None
        graph.inputs.append(value)
    onnxscript.optimizer.optimize(model)
    for name, value in found.items():
        graph.inputs.remove(value)
        value.name = name.removeprefix(_NETWORK)
    proto = ir.serde.serialize_model(model)
    _strip(proto)
    used = {name for node in proto.graph.node for name in node.input}
    for location in (PARAMETERS, STATISTICS, PREPROCESSING):
        shapes = {name: shape for name, (where, shape) in numbers.items() if where == location and name in used}
        proto.graph.initializer.extend(
            onnx.TensorProto.FromString(tensor.encoded()) for tensor in external(shapes, location)
        )
    unused = [name for name, (where, _) in numbers.items() if where == PARAMETERS and name not in used]
    facts = {
        "format": FORMAT,
        "version": str(VERSION),
        "architecture": json.dumps(architecture.to_json()),
        "unused": json.dumps(unused),
        "opset": str(OPSET),
        "exporter": f"torch.onnx dynamo {torch.__version__}",
    }
    for key, text in facts.items():
        proto.metadata_props.add(key=key, value=text)
    return Skeleton(sealed(proto.SerializeToString()))


class _WithPixels(nn.Module):
    """A network behind the normalisation of uint8 pixels (N, H, W, C)."""

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = _Preprocessing(channels)

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.permute(0, 3, 1, 2).to(torch.float32)
        return self.network(self.preprocessing(pixels))


class _Preprocessing(nn.Module):
    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(channels, 1, 1))
        self.register_buffer("shift", torch.zeros(channels, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels * self.scale + self.shift


def _traced(network: nn.Module, architecture: Architecture) -> ir.Model:
    """Return the network's graph as the exporter traces it, with a dynamic batch size and nothing folded."""
    # Traced with a batch of two: a size of one would be frozen into the graph.
    example = torch.zeros(2, architecture.height, architecture.width, architecture.channels, dtype=torch.uint8)
    try:
        with _quiet():
            program = torch.onnx.export(
                network.eval(),
                (example,),
                dynamo=True,
                optimize=False,
                opset_version=OPSET,
                input_names=[IMAGE],
                output_names=[LOGITS],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
        assert program is not None
        return program.model
    except Exception as error:  # of many kinds; any of them means that it cannot be exported
        cause = error.__cause__ or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise ExportError(
            f"the network {architecture.name} cannot be exported to ONNX opset {OPSET} ({reason}), so it could not be "
            "deployed; change it, or choose another architecture"
        ) from error


def _named_numbers(network: nn.Module) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return, by name, the file and the shape of each tensor that the graph does not contain."""
    numbers = {name: (PARAMETERS, tuple(tensor.shape)) for name, tensor in trained_parameters(network).items()}
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            size = (module.num_features,)
            numbers |= {f"{name}.running_mean": (STATISTICS, size), f"{name}.running_var": (STATISTICS, size)}
    return numbers


def _strip(proto: Any) -> None:
    """Remove the exporter's notes about source files, and intermediate shapes that are not needed."""
    del proto.graph.value_info[:]
    del proto.graph.metadata_props[:]
    proto.ClearField("doc_string")
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its advice to its own developers off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
