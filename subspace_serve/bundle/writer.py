"""Writes a bundle: whole, checked, and in the place of the old one in a single step."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from subspace_serve import __version__
from subspace_serve.bundle.locking import locked
from subspace_serve.bundle.manifest import (
    BundleFile,
    Calibration,
    Domain,
    DomainImages,
    DynamicGraph,
    Ensemble,
    FusedGraph,
    Input,
    InterpolationError,
    Manifest,
    Onnx,
    Parity,
    Point,
    Source,
    StatisticsRecord,
    SubspaceRecord,
    describe,
)
from subspace_serve.bundle.reader import Bundle
from subspace_serve.bundle.reduced import GraphParity
from subspace_serve.bundle.replacing import GOLDEN_FILE, check_domains_kept, check_no_domains, check_target
from subspace_serve.bundle.verify import read_golden
from subspace_serve.errors import BundleError
from subspace_serve.files import MANIFEST_FILE, atomic_folder, sha256_of
from subspace_serve.network.statistics_set import StatisticsSet
from subspace_serve.space.place import Alpha

ENDPOINTS_FILE = "subspace.safetensors"
GATE_FILE = "gate.npz"
DYNAMIC_FILE = "dynamic.onnx"
SKELETON_FILE = "skeleton.onnx"
OWN_GRAPHS = {Path(file).stem for file in (SKELETON_FILE, DYNAMIC_FILE)}
"""Names that no point can have, since its graph's file would be one of the bundle's own."""


@contextlib.contextmanager
def write_bundle(
    target: Path | str,
    *,
    source: Source,
    input: Input,
    labels: Sequence[str],
    onnx: Onnx,
    drop_domains: bool = False,
) -> Iterator[BundleWriter]:
    """Build a bundle in a temporary folder beside `target`; it takes `target`'s place when the block succeeds.

    For example::

        with write_bundle("runs/latest/bundle", source=..., input=..., labels=..., onnx=...) as bundle:
            export_onnx(network, bundle.file("midpoint"))          # one self-contained .onnx file
            bundle.add_point("midpoint", alpha=0.5, coefficients=[0.5, 0.5], calibration=..., parity=...)
            bundle.add_ensemble("endpoints", members=["endpoint-0", "endpoint-1"])
            bundle.set_golden(images, {"midpoint": logits})        # numpy arrays; logits of every point
            bundle.default = "midpoint"                            # else the first point added

    Hashes are computed when a file is added, and the finished folder is opened as a reader would open it before it
    takes its place. When the block raises, or the process is killed, the old bundle stays.

    Raises `BundleError` at the start when `target` cannot be replaced: nothing but a bundle ever is, and one that has
    domains only with `drop_domains`. In the block for a name used twice. At the end for a file missing or left over, a
    manifest that would not be valid, something at `target` that came meanwhile and would be lost, or a bundle that
    another process changes for longer than a minute.
    """
    _check(target, drop_domains=drop_domains)
    target = Path(target).resolve()
    # Held until the folder's block has ended, since that is when it takes its place; not before, since work is long.
    with contextlib.ExitStack() as lock, atomic_folder(target) as folder:
        writer = BundleWriter(folder, {"source": source, "input": input, "labels": tuple(labels), "onnx": onnx})
        yield writer
        writer._finish()
        lock.enter_context(locked(target))
        _check(target, drop_domains=drop_domains)  # what lies there now is exchanged and removed


def _check(target: Path | str, *, drop_domains: bool) -> None:
    check_target(target)
    if not drop_domains:
        check_no_domains(target)


@contextlib.contextmanager
def extend_bundle(base: Bundle, target: Path | str, *, renewed: str | None = None) -> Iterator[BundleWriter]:
    """As `write_bundle`, starting from everything that a bundle holds; `renewed` names the domain that is written.

    Statistics, domains and the points of domains replace those of their name; exported points and ensembles are never
    replaced. Files are hard-linked, not copied, where the disk allows it: a bundle's files are never changed in place.

    Both folders are locked while the block runs, and the base is read again under the lock (it is the writer's `base`),
    so that what others added meanwhile is kept.

    Raises `BundleError` as `write_bundle`, and at the start when another process changes either of the two for longer
    than a minute, the base was replaced by a bundle of another checkpoint, or the target has domains that would be
    lost (`check_domains_kept`).
    """
    check_target(target)
    target = Path(target).resolve()
    with locked(base.folder, target):
        fresh = Bundle.open(base.folder)
        manifest = fresh.manifest
        if manifest.source.checkpoint_sha256 != base.manifest.source.checkpoint_sha256:
            raise BundleError(f"{base.folder} was replaced by a bundle of another checkpoint meanwhile; try again")
        check_domains_kept(fresh, target, renewed=renewed)
        with atomic_folder(target) as folder:
            for name in manifest.files:
                _link_or_copy(fresh.folder / name, folder / name)
            kept = ("source", "input", "labels", "onnx")
            writer = BundleWriter(folder, {name: getattr(manifest, name) for name in kept}, fresh)
            writer.golden = read_golden(fresh)
            yield writer
            writer._finish()


class BundleWriter:
    """Collects what one bundle holds; made by `write_bundle` and `extend_bundle`."""

    def __init__(self, folder: Path, fields: dict[str, Any], extended: Bundle | None = None) -> None:
        base = extended.manifest if extended else None
        self.folder = folder
        self.base = extended
        """The bundle that is extended, if any."""
        self.golden: tuple[np.ndarray, dict[str, np.ndarray]] = (np.empty(0), {})
        """The images, and every point's logits."""
        self.default = base.default if base else None
        self._fields = fields
        self._points: dict[str, Point] = dict(base.points) if base else {}
        self._ensembles: dict[str, Ensemble] = dict(base.ensembles) if base else {}
        self._subspace = base.subspace if base else None
        self._domains: dict[str, Domain] = dict(base.domains) if base else {}
        self._golden: BundleFile | None = base.golden if base else None
        self._gate = base.gate if base else None
        self._replaceable = set(self._domains)

    def file(self, point: str) -> Path:
        """Return the path at which the ONNX file of a point is to be written before `add_point`."""
        return self.folder / f"{point}.onnx"

    def add_point(
        self,
        name: str,
        *,
        alpha: float | Sequence[float] | None,
        coefficients: Sequence[float],
        calibration: Calibration | None,
        parity: Parity,
        statistics: str | None = None,
        **answers: Any,
    ) -> None:
        """Add a point whose graph lies at `file(name)`; `alpha` is a number, a sequence, or None.

        `answers` is what the manifest records of its answers: `metrics`, `temperature`, `temperature_fit`, `sets`,
        `abstention` and `drift`; of a point in fewer bits also its `precision` and `reduction`.
        """
        file = self.file(name)
        if not file.is_file():
            raise BundleError(f"point {name} has no ONNX file; write it to {file} before adding the point")
        with _named(f"point {name}"):
            self._enter(
                self._points,
                name,
                Point(
                    alpha=None if alpha is None else _numbers(alpha),
                    statistics=statistics,
                    coefficients=tuple(map(float, coefficients)),
                    file=file.name,
                    sha256=sha256_of(file),
                    calibration=calibration,
                    parity=parity,
                    **answers,
                ),
            )

    def add_ensemble(
        self,
        name: str,
        *,
        members: Sequence[str],
        weights: Sequence[float] | None = None,
        aggregate: str = "probabilities",
        **answers: Any,
    ) -> None:
        """Add an ensemble of points of this bundle; weights default to equal ones, `answers` is as for a point."""
        with _named(f"ensemble {name}"):
            self._enter(
                self._ensembles,
                name,
                Ensemble(
                    members=tuple(members),
                    weights=tuple(weights) if weights is not None else (1.0 / len(members),) * len(members),
                    aggregate=aggregate,  # type: ignore[arg-type]
                    **answers,
                ),
            )

    def set_subspace(self, geometry: str, skeleton: bytes, endpoints: Path) -> None:
        """Add the subspace itself: its graph, and the checkpoint's file, which is copied."""
        (self.folder / SKELETON_FILE).write_bytes(skeleton)
        shutil.copyfile(endpoints, self.folder / ENDPOINTS_FILE)
        self._subspace = SubspaceRecord.model_construct(
            geometry=geometry, skeleton=self._entry(SKELETON_FILE), endpoints=self._entry(ENDPOINTS_FILE), statistics={}
        )

    def add_statistics(
        self,
        name: str,
        statistics: StatisticsSet,
        *,
        calibration: Calibration,
        prior: float | None = None,
        error: InterpolationError | None = None,
    ) -> None:
        """Add statistics at the subspace's knots, replacing others of their name."""
        if self._subspace is None:
            raise BundleError(f"statistics {name} belong to a subspace, which this bundle does not hold; export it")
        file = f"statistics-{name}.safetensors"
        statistics.save(self.folder / file, self._fields["source"].checkpoint_sha256)
        with _named(f"statistics {name}"):
            record = StatisticsRecord(
                **self._entry(file).model_dump(),
                knots=len(statistics.knots),
                degree=statistics.degree,
                calibration=calibration,
                prior=prior,
                error=error,
            )
        self._subspace = self._subspace.model_copy(update={"statistics": {**self._subspace.statistics, name: record}})

    def add_domain(
        self,
        name: str,
        *,
        statistics: str,
        alpha: Alpha,
        images: DomainImages,
        temperature: float = 1.0,
        chosen: dict[str, Any] | None = None,
    ) -> None:
        """Add a domain, replacing another of its name."""
        with _named(f"domain {name}"):
            self._domains[name] = Domain(
                statistics=statistics,
                alpha=_numbers(alpha),
                temperature=temperature,
                images=images,
                chosen=chosen,
            )

    def set_golden(self, images: np.ndarray, logits: Mapping[str, np.ndarray]) -> None:
        """Store K real images in the graph's input format, and every point's (K, classes) logits at export."""
        arrays: dict[str, Any] = {f"logits.{name}": np.asarray(row, dtype=np.float32) for name, row in logits.items()}
        file = self.folder / GOLDEN_FILE
        file.unlink(missing_ok=True)  # it may be a hard link to another bundle's file
        np.savez_compressed(file, **arrays, images=images)
        self._golden = self._entry(GOLDEN_FILE)
        self.golden = images, dict(logits)

    def set_gate(self, images: np.ndarray, labels: np.ndarray, tops: Mapping[str, np.ndarray]) -> None:
        """Store the images on which gates are repeated, uint8 (N, H, W, C), their labels, and float points' answers.

        Each answer is the index of the top class, (N,).
        """
        arrays: dict[str, Any] = {f"top.{name}": np.asarray(top, np.int64) for name, top in tops.items()}
        np.savez_compressed(self.folder / GATE_FILE, **arrays, images=images, labels=np.asarray(labels, np.int64))
        self._gate = self._entry(GATE_FILE)

    def fused_file(self, ensemble: str) -> Path:
        """Return the path at which an ensemble's fused graph is to be written."""
        return self.folder / f"{ensemble}.fused.onnx"

    def set_fused(self, ensemble: str, parity: GraphParity) -> None:
        """Enter the graph at `fused_file`; the ensemble was added before."""
        entry = self._entry(self.fused_file(ensemble).name)
        fused = FusedGraph(**entry.model_dump(), parity=parity)
        self._ensembles[ensemble] = self._ensembles[ensemble].model_copy(update={"fused": fused})

    def set_dynamic(self, *, size: int, places: int, parity: GraphParity) -> None:
        """Enter the subspace's graph with alpha as an input, which lies at `DYNAMIC_FILE`."""
        if self._subspace is None:
            raise BundleError("a graph with alpha as an input belongs to a subspace, which this bundle does not hold")
        graph = DynamicGraph(**self._entry(DYNAMIC_FILE).model_dump(), size=size, places=places, parity=parity)
        self._subspace = self._subspace.model_copy(update={"dynamic": graph})

    def _entry(self, file: str) -> BundleFile:
        return BundleFile(file=file, sha256=sha256_of(self.folder / file))

    def _enter(self, entries: dict[str, Any], name: str, entry: Point | Ensemble) -> None:
        taken = name in self._ensembles or (name in self._points and name not in self._replaceable)
        if taken:
            raise BundleError(f"the name {name} is used twice in the bundle; name each point and ensemble once")
        self._replaceable.discard(name)
        entries[name] = entry

    def _finish(self) -> None:
        if not self._points:
            raise BundleError("a bundle needs at least one point; none was added")
        if self._golden is None:
            raise BundleError("a bundle needs golden images with logits; none were set")
        with _named("the manifest"):
            manifest = Manifest(
                created_by=f"subspace-serve {__version__}",
                points=self._points,
                ensembles=self._ensembles,
                default=self.default or next(iter(self._points)),
                golden=self._golden,
                gate=self._gate,
                subspace=self._subspace,
                domains=self._domains,
                **self._fields,
            )
        (self.folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        Bundle.open(self.folder)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn pydantic's complaints into a `BundleError` about `what`."""
    try:
        yield
    except ValidationError as error:
        raise BundleError(f"{what} cannot be written to a bundle: {describe(error)}") from None


def _link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where that is not possible."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _numbers(alpha: Alpha) -> float | tuple[float, ...]:
    return tuple(map(float, alpha)) if isinstance(alpha, Sequence) else float(alpha)
