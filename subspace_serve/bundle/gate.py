"""Repeats the gates of points in fp16 and int8 on the processor that serves, where their answers may be others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from subspace_serve.bundle.manifest import Ensemble, Input
from subspace_serve.bundle.reader import Bundle
from subspace_serve.bundle.session import PointSession, open_session
from subspace_serve.data.images import in_chunks
from subspace_serve.errors import BundleError, reason_of
from subspace_serve.network.served import InputType, as_served
from subspace_serve.network.sessions import Device

GatePolicy = Literal["refuse", "float", "off"]
"""What becomes of points that do not pass: nothing is served, their float points answer, or no gate is repeated."""

_BATCH = 64


@dataclass(frozen=True)
class GateReport:
    """A repeated gate: by how many points accuracy falls on the bundle's own gate images, and how many it may.

    `flips` is the share of images whose top answer is not the float point's; `failure` says why the gate is not
    passed, None where it is.
    """

    precision: str
    provider: str | None = None
    images: int = 0
    drop: float | None = None
    allowed: float = 0.0
    flips: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class GateImages:
    """What a bundle's gates are repeated on: uint8 images (N, H, W, C), labels (N,), and float points' top answers."""

    images: np.ndarray
    labels: np.ndarray
    tops: dict[str, np.ndarray]


def repeat_gates(bundle: Bundle, *, device: Device = "auto", threads: int = 0) -> dict[str, GateReport]:
    """Repeat the gate of every point in fp16 or int8 on a device; return the reports by name.

    Raises `BundleError` when the gate's images cannot be read.
    """
    reduced = [name for name, point in bundle.points.items() if point.reduction is not None]
    if not reduced:
        return {}
    images = read_gate(bundle)
    return {name: _repeated(bundle, name, images, device, threads) for name in reduced}


def check_gates(reports: dict[str, GateReport]) -> None:
    """Raise `BundleError` for the first gate that was not passed."""
    for reason in failed(reports).values():
        raise BundleError(reason)


def failed(reports: dict[str, GateReport]) -> dict[str, str]:
    """Return why gates were not passed, by the names of their points."""
    return {name: report.failure for name, report in reports.items() if report.failure is not None}


def in_float(bundle: Bundle, names: Collection[str]) -> Bundle:
    """Return a bundle in which points in fewer bits are their float points, under their own names.

    An ensemble with such a member is its rival in float: with its temperature and promises where the bundle has an
    ensemble of just these members, else without any.
    """
    points = dict(bundle.points)
    of = {}
    for name in names:
        reduction = points[name].reduction
        assert reduction is not None
        of[name] = reduction.of
        points[name] = points[reduction.of]
    ensembles = {
        name: _in_float(bundle, ensemble, of) if of.keys() & set(ensemble.members) else ensemble
        for name, ensemble in bundle.ensembles.items()
    }
    manifest = bundle.manifest.model_copy(update={"points": points, "ensembles": ensembles})
    return replace(bundle, manifest=manifest, float_points=of)


def read_gate(bundle: Bundle) -> GateImages:
    """Return what a bundle's gates are repeated on. Raises `BundleError` when it is damaged or of other models."""
    assert bundle.manifest.gate is not None
    file = bundle.folder / bundle.manifest.gate.file
    try:
        with np.load(file, allow_pickle=False) as opened:
            arrays = {key: opened[key] for key in opened.files}
        images, labels = arrays.pop("images"), arrays.pop("labels")
    except Exception as error:  # numpy and zipfile raise errors of many kinds
        raise BundleError(f"{file} cannot be read ({error}); export the bundle again") from None
    input = bundle.manifest.input
    tops = {key.removeprefix("top."): top for key, top in arrays.items()}
    wanted = {point.reduction.of for point in bundle.points.values() if point.reduction is not None}
    fits = images.shape[1:] == (input.height, input.width, input.channels) and images.dtype == np.uint8 and len(images)
    if not fits or not wanted <= tops.keys() or any(row.shape != (len(images),) for row in (labels, *tops.values())):
        raise BundleError(
            f"{file} holds images of shape {images.shape} and answers of {sorted(tops)}, expected images "
            f"(N, {input.height}, {input.width}, {input.channels}) and answers of {sorted(wanted)}; export again"
        )
    return GateImages(images, labels, tops)


def logits_in_batches(session: PointSession, images: np.ndarray, input: Input) -> np.ndarray:
    """Return a graph's logits (N, classes) of uint8 images (N, H, W, C)."""
    input_type: InputType = "uint8" if input.dtype == "uint8" else "float"
    parts = (np.ascontiguousarray(part) for part in in_chunks(images, _BATCH))
    return np.concatenate([session.logits(as_served(part, input_type)) for part in parts])


def _repeated(bundle: Bundle, name: str, gate: GateImages, device: Device, threads: int) -> GateReport:
    point = bundle.points[name]
    assert point.reduction is not None
    of, report = point.reduction.of, GateReport(point.precision, allowed=point.reduction.gate.allowed)
    remedy = f"serve its float point {of}, or export again on this processor"
    try:
        session = open_session(
            bundle.path(name), bundle.manifest.input, len(bundle.labels), device=device, threads=threads
        )
        tops = logits_in_batches(session, gate.images, bundle.manifest.input).argmax(axis=1)
    except Exception as error:  # ONNX Runtime's errors have no common base: a kernel may be missing when it runs
        return replace(report, failure=f"{name} does not run in {point.precision} here ({reason_of(error)}); {remedy}")
    right, before = tops == gate.labels, gate.tops[of] == gate.labels
    drop = 100 * float(before.mean() - right.mean())
    flips = float((tops != gate.tops[of]).mean())
    report = replace(report, provider=session.provider, images=len(tops), drop=drop, flips=flips)
    if drop <= report.allowed + 1e-9:
        return report
    return replace(
        report,
        failure=f"{name} does not pass its gate on {session.provider}: in {point.precision} {drop:.2f} points of "
        f"accuracy less than {of} on {len(tops)} images, allowed are {report.allowed:.2f} ({flips:.1%} of answers "
        f"flip); {remedy}",
    )


def _in_float(bundle: Bundle, ensemble: Ensemble, of: dict[str, str]) -> Ensemble:
    """Return an ensemble whose members in `of` are replaced, and whose others in fewer bits are too."""
    reductions = {name: point.reduction for name, point in bundle.points.items()}
    members = tuple(reduction.of if (reduction := reductions[name]) else name for name in ensemble.members)
    own = Ensemble(members=members, weights=ensemble.weights, aggregate=ensemble.aggregate)
    for other in bundle.ensembles.values():
        if (other.members, other.weights, other.aggregate) == (own.members, own.weights, own.aggregate):
            return other
    return own
