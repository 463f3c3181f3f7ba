"""What of a network is trained, and what of it stays as it is.

Coordinates in weight space are the parameters that take gradients. Frozen parameters, and buffers whose values one
building of the network does not share with the next (a random projection), are *kept*: drawn once, the same in every
network of the subspace, and written to the checkpoint. BatchNorm's running statistics are neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from subspace_serve.errors import TrainingError
from subspace_serve.space.architecture import Architecture
from trainer.architectures import build
from trainer.randomness import derived_seed

Kept = Mapping[str, np.ndarray]


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training moves, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def build_seeded(architecture: Architecture, seed: int, index: int = 0) -> nn.Module:
    """Build a network with random numbers of its own: the one from which endpoint `index` starts."""
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, "initialisation", index))
        return build(architecture)


def kept_state(architecture: Architecture, seed: int) -> dict[str, np.ndarray]:
    """Return what is kept as it is, by name: frozen parameters, and buffers that differ from building to building.

    Args:
        architecture: of the network.
        seed: of the run; the values are those of endpoint 0's initial network.
    """
    if not architecture.is_custom:
        return {}  # those that come along have none; the proof of the skeleton would show it
    first, other = build_seeded(architecture, seed), dict(_constants(build_seeded(architecture, seed, index=1)))
    frozen = {name for name, parameter in first.named_parameters() if not parameter.requires_grad}
    return {
        name: tensor.detach().cpu().numpy().copy()
        for name, tensor in _constants(first)
        if name in frozen or not _equal(tensor, other.get(name))
    }


def load_kept(model: nn.Module, kept: Kept) -> nn.Module:
    """Put what is kept into a network; return the network.

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
    """Check that a pass in train mode changes nothing but BatchNorm's statistics; the network is left as it was.

    Args:
        model: a network in train mode.
        images: normalised, float (N, C, H, W).

    Raises:
        TrainingError: it changes other state, which no network of a subspace would have.
    """
    before = {name: tensor.detach().clone() for name, tensor in _constants(model)}
    statistics = {name: tensor.clone() for name, tensor in model.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model(images)
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


def _constants(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield frozen parameters and all buffers but BatchNorm's, by name."""
    statistics = {
        f"{name}.{buffer}" if name else buffer
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for buffer in ("running_mean", "running_var", "num_batches_tracked")
    }
    yield from ((name, parameter) for name, parameter in model.named_parameters() if not parameter.requires_grad)
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name not in statistics)


def _equal(first: Tensor, second: Tensor | None) -> bool:
    return second is not None and first.shape == second.shape and torch.equal(first.detach(), second.detach())
