"""Writes a bundle as a Triton model repository: whole, checked, and in the place of the old one in a single step."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from subspace_serve.bundle.fused import compare_fused, output_shapes
from subspace_serve.bundle.manifest import FORMAT
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.reader import Bundle
from subspace_serve.bundle.selection import Selection
from subspace_serve.bundle.session import open_session
from subspace_serve.bundle.verify import read_golden
from subspace_serve.deploy.triton.configuration import LABELS_FILE, configuration, interface
from subspace_serve.errors import BundleError
from subspace_serve.export.fused.graph import fuse
from subspace_serve.files import MANIFEST_FILE, atomic_folder, check_replaceable, sha256_of

MAX_BATCH_SIZE = 64

CONFIGURATION_FILE = "config.pbtxt"
GRAPH_FILE = "model.onnx"
_RECORD = re.compile(r"bundle-([1-9][0-9]*)\.json")
"""For each version, the bundle's manifest is kept beside the models."""


def write_triton_repository(
    bundle: Bundle,
    target: str | Path,
    *,
    max_batch_size: int = MAX_BATCH_SIZE,
    version: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write each point and each ensemble of a bundle as a model that Triton's ONNX Runtime backend loads.

    The points of domains are included; the bundle's subspace is left out, since Triton cannot build networks from it.
    Every model is one graph, an ensemble's with all its members, and has the outputs that the service answers with. It
    is compared with `Predictor` on the bundle's golden images, one by one, all together, and twice over in one batch.
    The repository takes its place in one step; when anything fails, or the process is killed, the old one stays.

    Args:
        bundle: what is to be served.
        target: the repository's folder.
        max_batch_size: images that Triton may put into one batch.
        version: None writes a repository with version 1 of each model, in the place of an old one; a number adds that
            version to the existing repository, whose other versions and models stay as they are.
        progress: called with a line for each model.

    Returns:
        The repository's folder.

    Raises:
        BundleError: the target cannot be replaced or added to, or a model cannot be one graph or answers otherwise.
    """
    target = Path(target).resolve()
    if max_batch_size < 1:
        raise BundleError(f"Triton's largest batch must be 1 or more, got {max_batch_size}")
    check_target(target, version)
    number = version or 1
    images, _ = read_golden(bundle)
    predictor = Predictor(bundle, device="cpu")
    with atomic_folder(target) as folder:
        if version is not None and target.exists():
            shutil.copytree(target, folder, dirs_exist_ok=True)
        for name in (*bundle.points, *bundle.ensembles):
            difference = _write_model(folder / name, predictor, images, max_batch_size, number)
            progress(f"{name}: its graph and the service's answer differ by at most {difference:.1e}")
        shutil.copyfile(bundle.folder / MANIFEST_FILE, folder / f"bundle-{number}.json")
    return target


def check_target(target: str | Path, version: int | None = None) -> None:
    """Raise `BundleError` unless a repository, or a new `version`, can be written at `target`.

    Nothing but an older repository is ever replaced.
    """
    target = Path(target)
    if version is not None and version < 1:
        raise BundleError(f"Triton counts versions from 1, got {version}")
    entries = list(target.iterdir()) if target.is_dir() else []
    records = {entry.name: models for entry in entries if (models := _models_of(entry)) is not None}
    own = records.keys() | {model for models in records.values() for model in models}
    check_replaceable(
        target,
        lambda names: set(names) - own,
        "{target} holds {found}, which was not written by an export to Triton; move it away, or choose another folder: "
        "Triton takes several, each with its own --model-repository",
        BundleError,
    )
    if version is not None and f"bundle-{version}.json" in records:
        raise BundleError(f"{target} has a version {version} already; give a greater number, or replace all without")


def _models_of(record: Path) -> list[str] | None:
    """Return the models of one version; None where the file is not a record of one."""
    if not _RECORD.fullmatch(record.name) or not record.is_file():
        return None
    try:
        manifest = json.loads(record.read_bytes())
        return [*manifest["points"], *manifest["ensembles"]] if manifest["format"] == FORMAT else None
    except (ValueError, LookupError, TypeError):
        return None


def _write_model(folder: Path, predictor: Predictor, images: np.ndarray, max_batch_size: int, version: int) -> float:
    bundle, name = predictor.bundle, folder.name
    input, labels = bundle.manifest.input, bundle.labels
    selection = predictor.select(name)
    outputs = output_shapes(selection, len(labels))
    # One label per line.
    labels_text = "".join(" ".join(label.splitlines()) + "\n" for label in labels)
    _check_versions(folder, interface(input, outputs), labels_text)
    parameters = _parameters(bundle, name, selection)
    graph = fuse(
        name,
        {member: bundle.path(member) for member in selection.names},
        selection,
        input=input,
        classes=len(labels),
        properties=parameters,
    )
    file = folder / str(version) / GRAPH_FILE
    file.parent.mkdir(parents=True)
    onnx.save(graph, file)
    text = configuration(name, input, outputs, max_batch_size, parameters)
    (folder / CONFIGURATION_FILE).write_text(text, encoding="utf-8")
    (folder / LABELS_FILE).write_text(labels_text, encoding="utf-8")
    opened = open_session(file, input, len(labels), device="cpu", threads=predictor.threads)
    return compare_fused(
        name, opened, lambda batch: predictor.predict(batch, selection), selection, images, len(labels)
    )


def _check_versions(folder: Path, tensors: str, labels: str) -> None:
    """Refuse a version that cannot share config.pbtxt and the labels with the existing ones."""
    if not folder.exists():
        return
    if (
        tensors not in (folder / CONFIGURATION_FILE).read_text(encoding="utf-8")
        or (folder / LABELS_FILE).read_text(encoding="utf-8") != labels
    ):
        raise BundleError(
            f"{folder.name} has another input, other labels or another number of members than its older versions, and "
            "all versions of a Triton model share these; name it otherwise, or replace the repository whole"
        )


def _parameters(bundle: Bundle, name: str, selection: Selection) -> dict[str, str]:
    """Return the facts recorded about a model, as strings."""
    manifest = bundle.manifest
    if name in bundle.points:
        point = bundle.points[name]
        own = {"alpha": json.dumps(point.alpha), "coefficients": json.dumps(point.coefficients)}
        if point.statistics is not None:
            own["statistics"] = point.statistics
    else:
        own = {
            "members": json.dumps(selection.names),
            "weights": json.dumps(selection.weights),
            "aggregate": str(selection.aggregate),
            "alphas": json.dumps([bundle.points[member].alpha for member in selection.names]),
        }
    own |= {
        "temperature": json.dumps(selection.temperature),
        "bundle_sha256": sha256_of(bundle.folder / MANIFEST_FILE),
        "checkpoint_sha256": manifest.source.checkpoint_sha256,
        "geometry": manifest.source.geometry,
        "architecture": json.dumps(manifest.source.architecture),
        "created_by": manifest.created_by,
    }
    return {f"subspace_serve.{key}": value for key, value in own.items()}
