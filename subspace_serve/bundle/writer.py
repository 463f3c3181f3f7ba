"""Writes a bundle: whole, checked, and in the place of the old one in a single step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from subspace_serve import __version__
from subspace_serve.bundle.manifest import (
    FORMAT,
    MANIFEST_FILE,
    Calibration,
    Ensemble,
    Golden,
    Input,
    Manifest,
    Onnx,
    Parity,
    Point,
    Source,
    describe,
)
from subspace_serve.bundle.reader import Bundle
from subspace_serve.errors import BundleError
from subspace_serve.files import atomic_folder, check_replaceable, sha256_of

GOLDEN_FILE = "golden.npz"


@contextlib.contextmanager
def write_bundle(
    target: Path | str, *, source: Source, input: Input, labels: Sequence[str], onnx: Onnx
) -> Iterator[BundleWriter]:
    """Build a bundle in a temporary folder beside `target`; it takes `target`'s place when the block ends well.

    For example::

        with write_bundle("runs/latest/bundle", source=..., input=..., labels=..., onnx=...) as bundle:
            export_onnx(network, bundle.file("midpoint"))          # one self-contained .onnx file
            bundle.add_point("midpoint", alpha=0.5, coefficients=[0.5, 0.5], calibration=..., parity=...)
            bundle.add_ensemble("endpoints", members=["endpoint-0", "endpoint-1"])
            bundle.set_golden(images, {"midpoint": logits})        # numpy arrays; logits of every point
            bundle.default = "midpoint"                            # else the first point added

    Hashes are computed when a file is added, and the finished folder is opened as a reader would open it before it
    takes the place. When the block raises, or the process is killed, the old bundle stays.

    Raises `BundleError` at the start when `target` exists and is not a bundle (nothing else is ever replaced), and
    at the end for a file missing or left over, a name used twice, or a manifest that would not be valid.
    """
    check_target(target)
    with atomic_folder(Path(target)) as folder:
        writer = BundleWriter(folder)
        yield writer
        writer._finish({"source": source, "input": input, "labels": tuple(labels), "onnx": onnx})


class BundleWriter:
    """Collects the points and ensembles of one bundle; made by `write_bundle`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.default: str | None = None
        self._points: dict[str, Point] = {}
        self._ensembles: dict[str, Ensemble] = {}
        self._golden: Golden | None = None

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
        **answers: Any,
    ) -> None:
        """Enter a point whose graph lies at `file(name)`; `alpha` is a number, a sequence, or None.

        `answers` are what the manifest says of how it answers: `metrics`, `temperature` and `temperature_fit`.
        """
        file = self.file(name)
        if not file.is_file():
            raise BundleError(f"point {name} has no ONNX file; write it to {file} before adding the point")
        with _named(f"point {name}"):
            self._enter(
                self._points,
                name,
                Point(
                    alpha=None if alpha is None else np.asarray(alpha, dtype=float).tolist(),
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
        """Enter an ensemble of points of this bundle; equal weights unless given, `answers` as of a point."""
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

    def set_golden(self, images: np.ndarray, logits: Mapping[str, np.ndarray]) -> None:
        """Store K real images in the graph's input format, and every point's (K, classes) logits at export."""
        arrays: dict[str, Any] = {f"logits.{name}": np.asarray(row, dtype=np.float32) for name, row in logits.items()}
        file = self.folder / GOLDEN_FILE
        np.savez_compressed(file, **arrays, images=images)
        self._golden = Golden(file=file.name, sha256=sha256_of(file))

    def _enter(self, entries: dict[str, Any], name: str, entry: Point | Ensemble) -> None:
        if name in self._points or name in self._ensembles:
            raise BundleError(f"the name {name} is used twice in the bundle; name each point and ensemble once")
        entries[name] = entry

    def _finish(self, fields: dict[str, Any]) -> None:
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
                **fields,
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


def check_target(target: Path | str) -> None:
    """Raise `BundleError` unless a bundle can be written at `target`; nothing but an older one is ever replaced."""
    manifest = Path(target, MANIFEST_FILE)

    def foreign(names: list[str]) -> list[str]:
        return [] if manifest.is_file() and FORMAT.encode() in manifest.read_bytes() else names

    check_replaceable(
        Path(target),
        foreign,
        "{target} exists and is not a bundle; move it away, or choose another place for the bundle",
        BundleError,
    )
