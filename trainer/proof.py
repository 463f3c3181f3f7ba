"""The proof that a skeleton computes what its network does, whatever the weights. Made before training starts."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from subspace_serve.errors import ExportError
from subspace_serve.export.parity import TOLERANCE
from subspace_serve.network.network import Answering, Network
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics import Statistics
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.geometry import single_network
from trainer.architectures import build
from trainer.skeleton import skeleton_of
from trainer.state import Kept, check_constant, load_kept, trained_parameters

TIMES = 2
"""With how many sets of random numbers."""
BATCHES = (1, 3)
"""Few: a proof at 224 px is what an import waits for."""


def proven_skeleton(architecture: Architecture, kept: Kept | None = None) -> Skeleton:
    """Return an architecture's skeleton after it was compared with a network built anew, with two sets of numbers.

    Weights and statistics are random, so that none can be left out or mixed up unnoticed. What differs between two
    builds of a network and is not kept (a random number that is no buffer) shows, too.

    Args:
        architecture: of the networks.
        kept: state that they all share (see `trainer.state`).

    Raises:
        ExportError: a parameter has a type that cannot be trained, an image's answer depends on its neighbours in the
            batch, a BatchNorm layer runs several times in a pass, or the graph cannot be made or does not answer as
            torch does.
        TrainingError: the network has no place for what is kept, or, of the user's own architecture, a pass in train
            mode changes state that no network of a subspace would have.
        ArchitectureError: the network cannot be built, or, of the user's own, fails in train mode.
    """
    if architecture.is_custom or kept:
        return _proven(architecture, kept or {})
    return _proven_once(json.dumps(architecture.to_json(), sort_keys=True))


@lru_cache(maxsize=32)
def _proven_once(document: str) -> Skeleton:
    return _proven(Architecture.from_json(json.loads(document)), {})


def _proven(architecture: Architecture, kept: Kept) -> Skeleton:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = load_kept(build(architecture), kept)
        if architecture.is_custom:
            check_constant(network, torch.randn(2, architecture.channels, architecture.height, architecture.width))
        network.eval()
        _check_types(network, architecture)
        size = (sum(BATCHES), architecture.height, architecture.width, architecture.channels)
        images = torch.randint(256, size, dtype=torch.uint8)
    skeleton = skeleton_of(architecture, kept)
    _check_runs(skeleton, architecture)
    scale = 1.0
    for seed in range(TIMES):
        state = _random_state(network, seed)
        expected = _answers(network, state, images)
        scale = max(scale, float(np.abs(expected).max()))
        _check_neighbours(network, state, images, expected, scale, architecture)
        found = _graph_answers(skeleton, network, state, images.numpy())
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCE * scale:
            raise ExportError(
                f"the graph of {architecture.name} does not answer as torch does: logits differ by up to "
                f"{difference:.3g}, allowed are {TOLERANCE * scale:.3g}; look for state that differs from one building "
                "of the network to the next, or choose another architecture"
            )
    return skeleton


def _check_types(network: nn.Module, architecture: Architecture) -> None:
    odd = {name: tensor.dtype for name, tensor in trained_parameters(network).items() if tensor.dtype != torch.float32}
    if odd:
        name, dtype = next(iter(odd.items()))
        raise ExportError(
            f"{architecture.name} has {len(odd)} parameters that are not float32, such as {name} ({dtype}), and so "
            "cannot be trained here; convert them (.float()), or register what is not trained as a buffer"
        )


def _check_runs(skeleton: Skeleton, architecture: Architecture) -> None:
    for layer in skeleton.batchnorms:
        if len(layer.inputs) > 1:
            raise ExportError(
                f"BatchNorm layer {layer.name} of {architecture.name} runs {len(layer.inputs)} times in a pass: no one "
                "set of statistics is right for all of them; give each run a layer of its own"
            )


def _random_state(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Return parameters near a network's own and random BatchNorm statistics, by name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return _near(network)


def _near(network: nn.Module) -> dict[str, Tensor]:
    state = {}
    for name, tensor in [*trained_parameters(network).items(), *network.named_buffers()]:
        if name.endswith(".running_mean") or name == "running_mean":
            state[name] = 0.1 * torch.randn_like(tensor)
        elif name.endswith(".running_var") or name == "running_var":
            state[name] = 0.5 + torch.rand_like(tensor)
        elif isinstance(tensor, nn.Parameter):
            own = tensor.detach()
            state[name] = own + (0.1 * own.abs() + 0.01) * torch.randn_like(own)
    return state


@torch.no_grad()
def _answers(network: nn.Module, state: dict[str, Tensor], images: Tensor) -> np.ndarray:
    # The normalisation of `_graph_answers`: a mean of 0.5 and a standard deviation of 0.5.
    pixels = images.permute(0, 3, 1, 2).float() * (1 / 127.5) - 1
    return functional_call(network, state, (pixels,)).numpy()


def _check_neighbours(
    network: nn.Module,
    state: dict[str, Tensor],
    images: Tensor,
    together: np.ndarray,
    scale: float,
    architecture: Architecture,
) -> None:
    alone = np.concatenate([_answers(network, state, image[None]) for image in images[:2]])
    difference = float(np.abs(alone - together[:2]).max())
    if not difference <= TOLERANCE * scale:
        raise ExportError(
            f"an image's answer by {architecture.name} depends on its neighbours in the batch: alone and in company "
            f"its logits differ by up to {difference:.3g}; a service would mix what strangers send. Look for BatchNorm "
            "without running statistics, and for what branches on the batch's size or draws at random in eval mode"
        )


def _graph_answers(skeleton: Skeleton, network: nn.Module, state: dict[str, Tensor], images: np.ndarray) -> np.ndarray:
    weights = {name: state[name].numpy() for name in trained_parameters(network)}
    channels = images.shape[-1]
    opened = Network(
        skeleton, single_network(), [weights], mean=[0.5] * channels, std=[0.5] * channels, device="cpu", threads=1
    )
    values = skeleton.default_statistics()
    for name, slot in skeleton.statistics.items():
        values[slot.where] = state[name].numpy()
    # Without an arena, which would keep what the largest batch took.
    numbers = opened.numbers(opened.endpoints[0], Statistics(values, 0))
    answering = Answering(opened.session(skeleton.data, numbers, arena=False), "CPUExecutionProvider")
    return np.concatenate([answering.logits(part) for part in np.split(images, np.cumsum(BATCHES)[:-1])])
