"""Which state of a network is trained, and which stays as it is.

The coordinates in weight space are the parameters that take gradients. Frozen parameters, and buffers that differ
between one build of the network and the next (a random projection), are *kept*: drawn once, the same in every network
of the subspace, and written to the checkpoint. BatchNorm's running statistics are neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from subspace_serve.errors import ArchitectureError, TrainingError
from subspace_serve.space.architecture import Architecture
from trainer.architectures import build
from trainer.randomness import derived_seed

Kept = Mapping[str, np.ndarray]


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training moves, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def check_coordinates(model: nn.Module) -> None:
    """Refuse networks whose parameters are no coordinates in weight space.

    Raises:
        TrainingError: weights are computed from other numbers, a mixture of which is no mixture of weights; or two
            layers share one parameter.
    """
    if any(parametrize.is_parametrized(module) for module in model.modules()):
        raise TrainingError(
            "the network has parametrised weights (weight or spectral normalisation), which have no place in weight "
            "space; choose an architecture without them"
        )
    owners: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first := owners.get(id(parameter)):
            raise TrainingError(
                f"the network has one parameter under two names, {first} and {name}, which is not supported; give each "
                "layer a parameter of its own"
            )
        owners[id(parameter)] = name


def build_seeded(architecture: Architecture, seed: int, index: int = 0) -> nn.Module:
    """Build a network with its own random numbers: the one that endpoint `index` starts from."""
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, "initialisation", index))
        return build(architecture)


def kept_state(architecture: Architecture, seed: int) -> dict[str, np.ndarray]:
    """Return the state that is kept, by name: frozen parameters, and buffers that differ from build to build.

    Args:
        architecture: of the network; only the user's own can have any.
        seed: of the run; the values are those of endpoint 0's initial network.
    """
    if not architecture.is_custom:
        return {}  # the bundled architectures and torchvision's have none; the proof of the skeleton would show it
    first, other = build_seeded(architecture, seed), dict(_constants(build_seeded(architecture, seed, index=1)))
    frozen = {name for name, parameter in first.named_parameters() if not parameter.requires_grad}
    return {
        name: tensor.detach().cpu().numpy().copy()
        for name, tensor in _constants(first)
        if name in frozen or not _equal(tensor, other.get(name))
    }


def constants_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Return a network's frozen parameters and all its buffers but BatchNorm's, by name."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in _constants(model)}


def load_kept(model: nn.Module, kept: Kept) -> nn.Module:
    """Copy the kept state into a network; return the network.

    Raises:
        TrainingError: the network has no such state.
    """
    tensors = dict(_constants(model)) if kept else {}
    with torch.no_grad():
        for name, values in kept.items():
            if name not in tensors or tensors[name].shape != values.shape:
                raise TrainingError(
                    f"the network has no frozen parameter or buffer {name} of shape {values.shape} as the run kept it; "
                    "bring back the code that the run was trained with"
                )
            tensors[name].copy_(torch.from_numpy(np.asarray(values, order="C")))
    return model


def check_constant(model: nn.Module, images: Tensor) -> None:
    """Check that a pass in train mode changes nothing but BatchNorm's statistics; buffers are restored afterwards.

    Args:
        model: a network in train mode.
        images: normalised, float (N, C, H, W).

    Raises:
        TrainingError: it changes other state, whose changes no network of a subspace would have.
        ArchitectureError: it fails in train mode.
    """
    before = {name: tensor.detach().clone() for name, tensor in _constants(model)}
    statistics = {name: tensor.clone() for name, tensor in model.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            model(images)
        except Exception as error:  # it is the user's own, and may fail in any way
            raise ArchitectureError(
                f"the network fails in train mode on images of shape {tuple(images.shape)} "
                f"({type(error).__name__}: {error})"
            ) from error
    changed = [name for name, tensor in _constants(model) if not _equal(tensor, before.get(name))]
    with torch.no_grad():
        for name, tensor in model.named_buffers():
            tensor.copy_(statistics[name])
    if changed:
        raise TrainingError(
            f"the network changes {changed[0]} while it is trained, which is neither a parameter that takes gradients "
            "nor BatchNorm's: no network of the subspace would have it; make it a parameter, keep it constant, or take "
            "it out"
        )


def batchnorm_statistics(model: nn.Module, *, counters: bool = False) -> frozenset[str]:
    """Return the names of BatchNorm's running means and variances, with `counters` also of its numbers of batches."""
    buffers = ("running_mean", "running_var", *(("num_batches_tracked",) if counters else ()))
    return frozenset(
        f"{name}.{buffer}" if name else buffer
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for buffer in buffers
    )


def _constants(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield frozen parameters and all buffers but BatchNorm's, by name."""
    statistics = batchnorm_statistics(model, counters=True)
    yield from ((name, parameter) for name, parameter in model.named_parameters() if not parameter.requires_grad)
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name not in statistics)


def _equal(first: Tensor, second: Tensor | None) -> bool:
    return second is not None and first.shape == second.shape and torch.equal(first.detach(), second.detach())
