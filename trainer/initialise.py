"""Where the endpoints of a subspace start."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from subspace_serve.errors import CheckpointError, SubspaceServeError, TrainingError
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.checkpoint import FILE_NAME, load_subspace
from subspace_serve.space.subspace import Weights, mismatch
from trainer.architectures import build
from trainer.modules import weights_of
from trainer.randomness import derived_seed


def initial_endpoints(architecture: Architecture, count: int, initialisation: str, seed: int) -> list[Weights]:
    """Return the weights from which each endpoint starts.

    Args:
        architecture: builds networks with its own random initialisation (Kaiming normal for the paper's).
        count: number of endpoints.
        initialisation: `independent` (Algorithm 1), `shared` (one initialisation for all, appendix E), or the path
            of a checkpoint: a run's folder, its `subspace.safetensors` (the midpoint is taken), or any safetensors
            state dict of the architecture.
        seed: of the random initialisations; endpoint 0 starts where a standard network of this seed starts.

    Raises:
        TrainingError: the checkpoint cannot be read or does not fit.
    """
    if initialisation == "independent":
        return [_random_weights(architecture, seed, index) for index in range(count)]
    if initialisation == "shared":
        return [_random_weights(architecture, seed, 0)] * count
    return [_weights_from(Path(initialisation), architecture)] * count


def _random_weights(architecture: Architecture, seed: int, index: int) -> Weights:
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, "initialisation", index))
        return weights_of(build(architecture))


def _weights_from(path: Path, architecture: Architecture) -> Weights:
    expected = _random_weights(architecture, 0, 0)
    try:
        if path.is_dir() or path.name == FILE_NAME:
            subspace = load_subspace(path)
            weights = subspace.weights(subspace.geometry.midpoint)
        else:
            state = load_file(path)
            # Buffers of a whole state dict (BatchNorm's statistics) are not coordinates in weight space.
            weights = {name: tensor for name, tensor in state.items() if name in expected}
        problem = mismatch(weights, expected)
        if problem:
            raise CheckpointError(problem)
    # The last two for types that NumPy does not have, such as bfloat16.
    except (OSError, SafetensorError, SubspaceServeError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"cannot start from {path}: {error}; give `independent`, `shared`, a run's folder or a safetensors state "
            f"dict of {architecture.name}"
        ) from error
    return weights
