"""Subspaces on disk: one safetensors file with every endpoint and where it came from."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import subspace_serve
from subspace_serve.architectures import Architecture
from subspace_serve.errors import CheckpointError
from subspace_serve.files import atomic_file
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace, Weights, mismatch

FORMAT = "subspace-serve"
VERSION = "1"
FILE_NAME = "subspace.safetensors"


def save_subspace(subspace: Subspace, path: str | Path) -> Path:
    """Write a subspace to `path` (a file, or a run's folder) atomically; return the file's path.

    Tensors are named `endpoints.<i>.<parameter>`; the metadata hold the format, its version, one JSON document
    (geometry, architecture, provenance) and a SHA-256 over the document and every tensor.

    Raises:
        CheckpointError: an endpoint is not finite or differs from the others in names, shapes or types, or the file
            cannot be written.
    """
    tensors = {
        f"endpoints.{i}.{name}": tensor.detach().cpu().contiguous()
        for i, endpoint in enumerate(subspace.endpoints)
        for name, tensor in endpoint.items()
    }
    for i, endpoint in enumerate(subspace.endpoints):
        _check_endpoint(i, endpoint, subspace.endpoints[0])
    document = json.dumps(
        {
            "geometry": {"name": subspace.geometry.name, "endpoints": subspace.geometry.endpoints},
            "architecture": subspace.architecture.to_json(),
            "provenance": subspace.provenance,
        },
        sort_keys=True,
    )
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "document": document,
        "sha256": _digest(document, tensors),
    }
    target = _file(path)
    _write(tensors, target, metadata)
    return target


def load_subspace(path: str | Path, *, architecture: str | None = None) -> Subspace:
    """Read a subspace from a file, or from the folder of the run that wrote it.

    Args:
        path: the file, or a folder that holds `subspace.safetensors`.
        architecture: the name of the user's own architecture (`package.module:function`) when the checkpoint has
            one. A file alone never makes the program import anything.

    Raises:
        CheckpointError: the file is missing, damaged, of another format or version, or its tensors are not exactly
            the finite weights of its architecture.
        ArchitectureError: the architecture is unknown, or is the user's own and was not named.
    """
    file = _file(path)
    metadata, tensors = _read(file)
    try:
        document = json.loads(metadata["document"])
        geometry = Geometry(document["geometry"]["name"], document["geometry"]["endpoints"])
        built_by = Architecture.from_json(document["architecture"], allow_import=architecture)
        endpoints = _split(tensors, geometry.endpoints)
        expected = dict(built_by.build().named_parameters())
        for i, endpoint in enumerate(endpoints):
            _check_endpoint(i, endpoint, expected)
        return Subspace(geometry, built_by, tuple(endpoints), dict(document["provenance"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: its document lacks or garbles {error}; write the checkpoint again") from error
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error


def save_weights(weights: Weights, path: str | Path, metadata: dict[str, str]) -> Path:
    """Write one network's state dict (weights and buffers) as an ordinary safetensors file, atomically."""
    target = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    _write(tensors, target, metadata)
    return target


def versions() -> dict[str, str]:
    """Return the versions of what shaped a result, for its provenance."""
    return {
        "subspace-serve": subspace_serve.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def _write(tensors: dict[str, Tensor], target: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically; the old file stays when the disk is full."""
    try:
        with atomic_file(target) as temporary:
            save_file(_unshared(tensors), temporary, metadata=metadata)
    except SafetensorError as error:
        raise CheckpointError(f"{target} cannot be written ({error}); what was there before is unchanged") from error


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with memory of their own, as safetensors demands; endpoints may have parts in common."""
    seen: set[int] = set()
    unshared = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        unshared[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return unshared


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path / FILE_NAME


def _read(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read metadata and tensors; refuse what is not whole, not ours or not of this version."""
    if not file.is_file():
        raise CheckpointError(f"no checkpoint at {file}: train one with `subspace-serve train`, or name another run")
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            _check_format(file, metadata)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{file} is truncated or damaged ({error}): copy it again or train again") from error
    if _digest(metadata["document"], tensors) != metadata["sha256"]:
        raise CheckpointError(f"{file} was altered after it was written (its SHA-256 differs): copy it again")
    return metadata, tensors


def _check_format(file: Path, metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{file} is a safetensors file, but not a subspace: its metadata name no {FORMAT} format")
    if metadata.get("version") != VERSION:
        raise CheckpointError(
            f"{file} has version {metadata.get('version')} of the format and this program reads version {VERSION}: "
            "install a newer subspace-serve"
        )
    missing = {"document", "sha256"} - metadata.keys()
    if missing:
        raise CheckpointError(f"{file} lacks {', '.join(sorted(missing))} in its metadata: copy it again")


def _digest(document: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _split(tensors: dict[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """Sort tensors named `endpoints.<i>.<parameter>` into endpoints."""
    endpoints: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for name, tensor in tensors.items():
        prefix, _, rest = name.partition(".")
        index, _, parameter = rest.partition(".")
        if prefix != "endpoints" or not index.isdecimal() or int(index) >= count:
            raise CheckpointError(f"excess tensor {name}: it belongs to none of the {count} endpoints")
        endpoints[int(index)][parameter] = tensor
    return endpoints


def _check_endpoint(index: int, endpoint: Weights, expected: Weights) -> None:
    problem = mismatch(endpoint, expected)
    if problem:
        raise CheckpointError(f"endpoint {index} does not fit the architecture: {problem}")
    for name, tensor in endpoint.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"endpoint {index} has values in {name} that are not finite")


def provenance_value(subspace: Subspace, *keys: str) -> Any:
    """Return one value of a subspace's provenance.

    Raises:
        CheckpointError: it was not recorded.
    """
    value: Any = subspace.provenance
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise CheckpointError(f"the checkpoint does not record {'.'.join(keys)}, which is needed here")
        value = value[key]
    return value


def unfinished_training(subspace: Subspace) -> tuple[int, int] | None:
    """Return how many epochs of how many were done, for a run that has not come to its end; else None."""
    training = subspace.provenance.get("training", {})
    finished, planned = training.get("finished_epochs"), training.get("planned_epochs", training.get("epochs"))
    if finished is None or planned is None or finished >= planned:
        return None
    return finished, planned
