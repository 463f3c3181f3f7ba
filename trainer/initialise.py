"""Where the endpoints of a subspace start."""

from __future__ import annotations

from pathlib import Path

import torch

from subspace_serve.data import Preprocessing
from subspace_serve.errors import SubspaceServeError, TrainingError
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.checkpoint import FILE_NAME, load_subspace
from subspace_serve.space.place import Alpha
from subspace_serve.space.subspace import Subspace, Weights
from subspace_serve.space.use import recommended_models
from trainer.foreign.fitting import Fitted, Fitter
from trainer.foreign.reading import StateDict, read_state_dicts
from trainer.modules import weights_of
from trainer.state import build_seeded, kept_state

RANDOM = ("independent", "shared")


def initial_endpoints(architecture: Architecture, count: int, initialisation: str, seed: int) -> list[Weights]:
    """Return the weights from which each endpoint starts.

    Args:
        architecture: builds networks with its own random initialisation (Kaiming normal for the paper's).
        count: number of endpoints.
        initialisation: `independent` (Algorithm 1), `shared` (one initialisation for all, appendix E), or the path
            of a checkpoint: a run's folder, its `subspace.safetensors` (the first single network of its recommended use
            is taken, which is the midpoint of a line), or any file of one network that `import` takes. A classifier of
            another size starts anew, the same for all endpoints.
        seed: of the random initialisations; endpoint 0 starts where a standard network of this seed starts.

    Raises:
        TrainingError: the checkpoint cannot be read, does not fit, or is a run that is meant as an ensemble only.
    """
    if initialisation == "independent":
        return [_random_weights(architecture, seed, index) for index in range(count)]
    if initialisation == "shared":
        return [_random_weights(architecture, seed, 0)] * count
    found = _checkpoint(Path(initialisation), architecture)
    new = _random_weights(architecture, seed, 0) if found.new else {}
    return [{name: new[name] if name in found.new else values for name, values in found.weights.items()}] * count


def lasting(initialisation: str) -> str:
    """Return an initialisation that means the same later: a path through links, such as runs/latest, is followed."""
    path = Path(initialisation)
    if initialisation in RANDOM or path.resolve() == path.absolute():
        return initialisation
    return str(path.resolve())


def initial_kept_state(architecture: Architecture, initialisation: str, seed: int) -> Weights:
    """Return the state that all networks of a new run share (see `trainer.state`), by name.

    Args:
        architecture: of the networks.
        initialisation, seed: as of `initial_endpoints`; a checkpoint's own state is taken over.

    Raises:
        TrainingError: the checkpoint cannot be read.
    """
    kept = kept_state(architecture, seed)
    if initialisation in RANDOM or not kept:
        return kept
    found = _checkpoint(Path(initialisation), architecture).constants
    return {name: found.get(name, values) for name, values in kept.items()}


def initial_notes(architecture: Architecture, initialisation: str, preprocessing: Preprocessing) -> list[str]:
    """Return what somebody should know who starts from a checkpoint: what was changed of it, and other normalisation.

    Raises:
        TrainingError: as `initial_endpoints`.
    """
    if initialisation in RANDOM:
        return []
    found = [f"{initialisation}: {note}" for note in _checkpoint(Path(initialisation), architecture).notes]
    before = normalisation_of_start(initialisation)
    if before not in (None, preprocessing):
        found.append(f"{initialisation} was trained with another normalisation; --normalisation start keeps it")
    return found


def normalisation_of_start(initialisation: str) -> Preprocessing | None:
    """Return the normalisation of the run whose weights are taken; None where it is no run.

    Raises:
        CheckpointError: the run cannot be read.
    """
    path = Path(initialisation)
    if initialisation in RANDOM or not _is_run(path):
        return None
    return Preprocessing.from_json(load_subspace(path).provenance_value("preprocessing"))


def _is_run(path: Path) -> bool:
    return path.is_dir() or path.name == FILE_NAME


def _random_weights(architecture: Architecture, seed: int, index: int) -> Weights:
    return weights_of(build_seeded(architecture, seed, index))


def _checkpoint(path: Path, architecture: Architecture) -> Fitted:
    """Return one network of a checkpoint: of a subspace the one that it is meant to be used as."""
    try:
        if _is_run(path):
            subspace = load_subspace(path)
            arrays = {**subspace.weights(_single_place(subspace, path), extrapolate=True), **subspace.buffers}
            tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
            found = [StateDict(str(path), tensors)]
        else:
            found = read_state_dicts(path)
        members = [member for entry in found for member in Fitter(architecture, cast=True, new_head=True).fit(entry)]
    except TrainingError:
        raise
    except SubspaceServeError as error:
        raise TrainingError(
            f"cannot start from {path}: {error}; give `independent`, `shared`, a run's folder, or a file of one "
            f"network of {architecture.name} (.pt, .pth, .bin, .safetensors)"
        ) from error
    if len(members) > 1:
        raise TrainingError(
            f"cannot start from {path}: it holds {len(members)} networks; make a run of them (subspace-serve import) "
            "and start from that, or give one of them"
        )
    return members[0]


def _single_place(subspace: Subspace, path: Path) -> Alpha:
    """Return the place of the first single network in the recommended use of a run's subspace.

    Raises:
        TrainingError: only ensembles are recommended, so that a network between them may be no good one.
        CheckpointError: the recommended use cannot be read.
    """
    recommended = recommended_models(subspace)
    for places in recommended.values():
        if len(places) == 1:
            return places[0]
    run = path if path.is_dir() else path.parent
    raise TrainingError(
        f"cannot start from {path}: it is meant to answer as {', '.join(recommended)}, several networks together, and "
        f"no single place in it is recommended; write one network (subspace-serve collapse {run} --alpha endpoint:0 "
        "--out FILE) and start from that file (--init FILE)"
    )
