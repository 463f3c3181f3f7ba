"""Subspaces on disk: one safetensors file with all endpoints and their provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from subspace_serve.errors import CheckpointError
from subspace_serve.files import atomic_file
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace, Weights, mismatch

FORMAT = "subspace-serve"
VERSION = "1"
FILE_NAME = "subspace.safetensors"
_BUFFERS = "buffers."

_TYPES = {"float16": "torch.float16", "float32": "torch.float32", "float64": "torch.float64"}
"""How the digest names types: as the first version of the program did, so that its files remain valid."""


def save_subspace(subspace: Subspace, path: str | Path) -> Path:
    """Write a subspace to `path` (a file, or a run's folder) atomically; return the file's path.

    Tensors are named `endpoints.<i>.<parameter>` and `buffers.<name>`; the metadata hold the format, its version, one
    JSON document (geometry, architecture, provenance) and a SHA-256 of the document and all tensors.

    Raises:
        CheckpointError: an endpoint is not finite or differs from the others in names, shapes or types, or the file
            cannot be written.
    """
    tensors = {
        f"endpoints.{i}.{name}": np.asarray(array, order="C")
        for i, endpoint in enumerate(subspace.endpoints)
        for name, array in endpoint.items()
    } | {f"{_BUFFERS}{name}": np.asarray(array, order="C") for name, array in subspace.buffers.items()}
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


def load_subspace(path: str | Path) -> Subspace:
    """Read a subspace from a file, or from the folder of the run that wrote it.

    Whether the weights fit the architecture is checked only when a skeleton or a network takes them.

    Args:
        path: the file, or a folder that holds `subspace.safetensors`.

    Raises:
        CheckpointError: the file is missing, damaged, of another format or version, or its tensors are not the finite
            weights of one network for each endpoint.
        GeometryError, ArchitectureError: the geometry or the architecture in its document is not valid.
    """
    file = _file(path)
    metadata, tensors = _read(file)
    try:
        document = json.loads(metadata["document"])
        geometry = Geometry(document["geometry"]["name"], document["geometry"]["endpoints"])
        architecture = Architecture.from_json(document["architecture"])
        buffers = {
            name.removeprefix(_BUFFERS): tensors.pop(name) for name in list(tensors) if name.startswith(_BUFFERS)
        }
        endpoints = _split(tensors, geometry.endpoints)
        for i, endpoint in enumerate(endpoints):
            _check_endpoint(i, endpoint, endpoints[0])
        return Subspace(geometry, architecture, tuple(endpoints), dict(document["provenance"]), buffers)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file}: a field of its document is missing or invalid ({error}); copy the checkpoint again, or train "
            "again"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error


def save_weights(weights: Weights, path: str | Path, metadata: dict[str, str]) -> Path:
    """Write one network's state dict (weights and buffers) as an ordinary safetensors file, atomically."""
    target = Path(path)
    _write({name: np.asarray(array, order="C") for name, array in weights.items()}, target, metadata)
    return target


def _write(tensors: dict[str, np.ndarray], target: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically; the old file stays when the disk is full."""
    try:
        with atomic_file(target) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except SafetensorError as error:
        raise CheckpointError(f"{target} cannot be written ({error}); what was there before is unchanged") from error


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path / FILE_NAME


def _read(file: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Read metadata and tensors; refuse a file that is damaged, or of another format or version."""
    if not file.is_file():
        raise CheckpointError(f"no checkpoint at {file}: train one with `subspace-serve train`, or name another run")
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            _check_format(file, metadata)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError, AttributeError) as error:  # the last two for types that NumPy does not have
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


def _digest(document: str, tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(tensors):
        array = tensors[name]
        kind = _TYPES.get(array.dtype.name, array.dtype.name)
        digest.update(f"\n{name} {kind} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _split(tensors: dict[str, np.ndarray], count: int) -> list[dict[str, np.ndarray]]:
    """Sort tensors named `endpoints.<i>.<parameter>` into endpoints."""
    endpoints: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for name, tensor in tensors.items():
        prefix, _, rest = name.partition(".")
        index, _, parameter = rest.partition(".")
        if prefix != "endpoints" or not index.isdecimal() or int(index) >= count:
            raise CheckpointError(f"excess tensor {name}: it belongs to none of the {count} endpoints")
        endpoints[int(index)][parameter] = tensor
    return endpoints


def _check_endpoint(index: int, endpoint: Weights, first: Weights) -> None:
    problem = mismatch(endpoint, first)
    if problem:
        raise CheckpointError(f"endpoint {index} is not of the first one's network: {problem}")
    for name, array in endpoint.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"endpoint {index} has values in {name} that are not finite")
