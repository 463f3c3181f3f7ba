"""Where the endpoints of a subspace start."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from subspace_serve.errors import SubspaceServeError, TrainingError
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.checkpoint import FILE_NAME, load_subspace
from subspace_serve.space.subspace import Weights, mismatch
from trainer.modules import weights_of
from trainer.state import build_seeded, kept_state


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
    return weights_of(build_seeded(architecture, seed, index))


def initial_kept_state(architecture: Architecture, initialisation: str, seed: int) -> Weights:
    """Return the state that all networks of a new run share (see `trainer.state`), by name.

    Args:
        architecture: of the networks.
        initialisation, seed: as of `initial_endpoints`; a checkpoint's own state is taken over.

    Raises:
        TrainingError: the checkpoint cannot be read.
    """
    kept = kept_state(architecture, seed)
    if initialisation in ("independent", "shared") or not kept:
        return kept
    found = _checkpoint(Path(initialisation), architecture)[1]
    return {name: found.get(name, values) for name, values in kept.items()}


def _weights_from(path: Path, architecture: Architecture) -> Weights:
    expected = _random_weights(architecture, 0, 0)
    weights, _ = _checkpoint(path, architecture)
    # Buffers of a whole state dict (BatchNorm's statistics) are not coordinates in weight space.
    weights = {name: values for name, values in weights.items() if name in expected}
    if problem := mismatch(weights, expected):
        raise _cannot_start(path, architecture, problem)
    return weights


def _checkpoint(path: Path, architecture: Architecture) -> tuple[Weights, Weights]:
    """Return a checkpoint's weights (a subspace's midpoint), and what else it holds."""
    try:
        if path.is_dir() or path.name == FILE_NAME:
            subspace = load_subspace(path)
            return subspace.weights(subspace.geometry.midpoint), subspace.buffers
        state = load_file(path)
        return state, state
    # The last two for types that NumPy does not have, such as bfloat16.
    except (OSError, SafetensorError, SubspaceServeError, TypeError, AttributeError) as error:
        raise _cannot_start(path, architecture, error) from error


def _cannot_start(path: Path, architecture: Architecture, reason: object) -> TrainingError:
    return TrainingError(
        f"cannot start from {path}: {reason}; give `independent`, `shared`, a run's folder or a safetensors state dict "
        f"of {architecture.name}"
    )
