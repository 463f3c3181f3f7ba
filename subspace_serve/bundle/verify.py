"""Checks a bundle on this machine: hashes, graphs, and parity with the golden logits of its export."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.bundle.dynamic import compare_dynamic, compared_places
from subspace_serve.bundle.fused import compare_fused
from subspace_serve.bundle.gate import GatePolicy, GateReport, check_gates, failed, repeat_gates
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.reader import Bundle
from subspace_serve.bundle.session import PointSession, load_graph, open_session
from subspace_serve.bundle.subspace import BundledSubspace, check_answers
from subspace_serve.errors import BundleError, reason_of
from subspace_serve.network.sessions import Device
from subspace_serve.packages import is_installed


@dataclass(frozen=True)
class PointReport:
    """What was found for one point: the greatest difference from the golden logits over every batch tried."""

    provider: str
    batches: tuple[int, ...]
    max_abs_diff: float
    top1_flips: int
    tolerance: float


@dataclass(frozen=True)
class VerificationReport:
    """The report on a bundle that passed every check; one that did not raises instead.

    `onnx_checked` is False without the package onnx; `statistics` names the subspace's sets, None for a bundle of
    points only. `gates` are the repeated ones; `fused` is how far each ensemble's one file, and `dynamic` how far the
    graph with alpha as an input is from the service's own answers, relative as in `GraphParity`.
    """

    bundle: str
    files: int
    onnx_checked: bool
    points: dict[str, PointReport]
    statistics: tuple[str, ...] | None = None
    gates: dict[str, GateReport] = field(default_factory=dict)
    fused: dict[str, float] = field(default_factory=dict)
    dynamic: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return asdict(self)


def verify_bundle(
    path: Path | str, *, device: Device = "auto", threads: int = 0, gates: GatePolicy = "refuse"
) -> VerificationReport:
    """Check every hash, every graph and every point's logits on the golden images.

    Each point answers the K golden images one by one, all together, and twice over in one batch, on the provider that
    `device` gives. The midpoint is built with each statistics set of the subspace, and its answers must be finite.
    Fused ensembles and the graph with alpha as an input answer as the service does. The gates of points in fp16 and
    int8 are repeated there: with `gates` as `refuse` they must be passed, with `float` the report says which were not,
    and `off` repeats none.
    Raises `BundleError` or `CheckpointError` at the first check that fails.
    """
    bundle = Bundle.open(path)
    images, golden = read_golden(bundle)
    reports = {} if gates == "off" else repeat_gates(bundle, device=device, threads=threads)
    if gates == "refuse":
        check_gates(reports)
    failing = failed(reports).keys()
    onnx_checked = True
    points = {}
    for name in bundle.points:
        if name in failing:
            continue
        onnx_checked = check_graph(bundle.path(name))
        session = open_session(
            bundle.path(name), bundle.manifest.input, len(bundle.labels), device=device, threads=threads
        )
        points[name] = _compare(bundle, name, session, images, golden[name])
    fused = {
        name: _check_fused(bundle, name, images, device, threads)
        for name, ensemble in bundle.ensembles.items()
        if ensemble.fused is not None and not failing & set(ensemble.members)
    }
    statistics = dynamic = None
    if bundle.manifest.subspace is not None:
        subspace = BundledSubspace(bundle, device=device, threads=threads)
        statistics = _check_subspace(subspace, images)
        dynamic = _check_dynamic(subspace, images, device, threads)
    return VerificationReport(
        str(bundle.folder), len(bundle.manifest.files), onnx_checked, points, statistics, reports, fused, dynamic
    )


def _check_subspace(subspace: BundledSubspace, images: np.ndarray) -> tuple[str, ...]:
    for name in subspace.sets:
        session = subspace.session(subspace.geometry.midpoint, name)
        check_answers(session, images, f"the midpoint with the statistics {name}")
    return subspace.sets


def _check_fused(bundle: Bundle, name: str, images: np.ndarray, device: Device, threads: int) -> float:
    """Return how far an ensemble's one graph is from the service's answer."""
    record = bundle.ensembles[name].fused
    assert record is not None
    predictor = Predictor(bundle, device=device, threads=threads, anywhere=False)
    selection = predictor.select(name)
    file, classes = bundle.folder / record.file, len(bundle.labels)
    return compare_fused(
        name,
        open_session(file, bundle.manifest.input, classes, device=device, threads=threads),
        lambda batch: predictor.predict(batch, selection),
        selection,
        images,
        classes,
        tolerance=record.parity.tolerance,
    )


def _check_dynamic(subspace: BundledSubspace, images: np.ndarray, device: Device, threads: int) -> float | None:
    """Return how far the graph with alpha as an input is from the service's answers; None where there is none."""
    record = subspace.record.dynamic
    if record is None:
        return None
    return compare_dynamic(
        load_graph(subspace.bundle.folder / record.file, device=device, threads=threads),
        lambda alpha: subspace.session(alpha).session,
        images,
        compared_places(subspace.geometry),
        tolerance=record.parity.tolerance,
    )


def read_golden(bundle: Bundle) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the golden images (K, ...) and each point's logits (K, classes) as they were at export."""
    try:
        with np.load(bundle.golden, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # numpy and zipfile raise errors of many kinds
        raise BundleError(f"{bundle.golden} cannot be read ({error}); export the bundle again") from None
    input = bundle.manifest.input
    images = arrays.pop("images", np.empty(0))
    if images.shape[1:] != input.shape or images.dtype != input.dtype or not len(images):
        raise BundleError(
            f"{bundle.golden} holds images of shape {images.shape} and type {images.dtype}, "
            f"expected (K, {', '.join(map(str, input.shape))}) {input.dtype}; export the bundle again"
        )
    expected = {f"logits.{name}" for name in bundle.points}
    shape = (len(images), len(bundle.labels))
    if arrays.keys() != expected or any(values.shape != shape for values in arrays.values()):
        found = {key: values.shape for key, values in arrays.items()}
        raise BundleError(f"{bundle.golden} holds {found}, expected {sorted(expected)} of shape {shape}; export again")
    return images, {key.removeprefix("logits."): values for key, values in arrays.items()}


def check_graph(path: Path) -> bool:
    """Run ONNX's full checker on a graph; return False where the package onnx is not installed.

    Raises `BundleError` when the graph is not valid.
    """
    if not is_installed("onnx"):
        return False
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # protobuf's, the checker's and shape inference's errors have no common base
        raise BundleError(f"{path} is not a valid ONNX graph ({reason_of(error)}); export the bundle again") from None
    return True


def _compare(bundle: Bundle, name: str, session: PointSession, images: np.ndarray, expected: np.ndarray) -> PointReport:
    tolerance = bundle.points[name].parity.tolerance
    count = len(images)
    one_by_one = np.concatenate([session.logits(images[index : index + 1]) for index in range(count)])
    twice = session.logits(np.concatenate([images, images]))
    answers = [one_by_one, session.logits(images), twice[:count], twice[count:]]
    difference = max(float(np.abs(answer - expected).max()) for answer in answers)
    flips = max(int((answer.argmax(axis=1) != expected.argmax(axis=1)).sum()) for answer in answers)
    if not all(np.isfinite(answer).all() for answer in answers) or not difference <= tolerance:
        raise BundleError(
            f"point {name} differs from the golden logits of its export by {difference:.3g} on {session.provider} "
            f"({flips} of {count} answers flip), the tolerance is {tolerance:.3g}; export the bundle again"
        )
    return PointReport(session.provider, (1, count, 2 * count), difference, flips, tolerance)
