"""Writes an adaptation into a bundle, as a domain and a point, in one step."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.adapt.adapting import PARITY_IMAGES, Adaptation
from subspace_serve.adapt.promised import promised_by
from subspace_serve.answers import softmax
from subspace_serve.bundle.manifest import NAME_PATTERN, TRAINING, Calibration, DomainImages
from subspace_serve.bundle.reader import Bundle
from subspace_serve.bundle.subspace import BundledSubspace
from subspace_serve.bundle.writer import OWN_GRAPHS, BundleWriter, extend_bundle
from subspace_serve.data.domains import Domain as LabelledDomain
from subspace_serve.errors import BundleError
from subspace_serve.export.answers import Record
from subspace_serve.export.parity import THE_SKELETON
from subspace_serve.export.points import write_point
from subspace_serve.network.statistics_set import StatisticsSet
from subspace_serve.space.place import Alpha, place

_TAKEN = {TRAINING, *OWN_GRAPHS}


def write_adaptation(subspace: BundledSubspace, adaptation: Adaptation, target: Path) -> None:
    """Add a domain, its statistics and a point of its name to a bundle.

    Args:
        subspace: of the bundle that was adapted.
        adaptation: what to add.
        target: the bundle's own folder, or another one.

    Raises:
        BundleError: the name cannot be used (`check_name`), the bundle was replaced by one of another checkpoint,
            another process holds it, or the target cannot be replaced or has domains that would be lost.
        ExportError: the point's graph does not answer as the subspace does.
    """
    images = adaptation.images
    calibration = Calibration(data=images.data, count=images.count, batch_size=min(images.count, 128), seed=None)
    with _extended(subspace, adaptation.name, target) as writer:
        writer.add_statistics(adaptation.name, adaptation.statistics, calibration=calibration, prior=adaptation.prior)
        writer.add_domain(
            adaptation.name,
            statistics=adaptation.name,
            alpha=adaptation.alpha,
            images=images,
            temperature=adaptation.record.temperature,
            chosen=adaptation.chosen,
        )
        _add_point(
            writer,
            subspace,
            adaptation.name,
            adaptation.alpha,
            (adaptation.name, adaptation.statistics, calibration),
            adaptation.pixels,
            adaptation.record,
        )


def write_choice(
    subspace: BundledSubspace, name: str, domains: Sequence[LabelledDomain], selection: Mapping[str, Any]
) -> None:
    """Enter what `select` chose with the training images' statistics: a domain and a point, in the bundle itself.

    Args:
        subspace: of the bundle.
        name: of the domain and of the point.
        domains: where it was chosen; several of a mixture.
        selection: what `select` recorded.

    Raises:
        BundleError, ExportError: as `write_adaptation`.
    """
    alpha = place(selection["alpha"])
    count = -(-PARITY_IMAGES // len(domains))
    pixels = np.concatenate([domain.images.take(np.arange(min(len(domain.images), count)))[0] for domain in domains])
    images = DomainImages(
        data=", ".join(domain.description for domain in domains),
        count=sum(len(domain.images) for domain in domains),
        fingerprint=_fingerprint([domain.images.fingerprint() for domain in domains]),
    )
    known = subspace.record.statistics[TRAINING].calibration
    record = Record()
    if len(domains) == 1:  # the images of several would calibrate for none of them
        network = subspace.network.at(alpha, subspace.statistics().at(alpha))
        record = promised_by(domains[0], softmax(network.logits_of(domains[0].images)), seed=selection["seed"])
    with _extended(subspace, name, subspace.bundle.folder, adapted=False) as writer:
        writer.add_domain(name, statistics=TRAINING, alpha=alpha, images=images, chosen=dict(selection))
        _add_point(
            writer,
            subspace,
            name,
            alpha,
            (TRAINING, subspace.statistics(), known),
            pixels,
            replace(record, metrics=selection["reported"]),
        )


@contextlib.contextmanager
def _extended(subspace: BundledSubspace, name: str, target: Path, *, adapted: bool = True) -> Iterator[BundleWriter]:
    """Yield a writer that extends a bundle in one step, with the domain's name checked under its lock."""
    with extend_bundle(subspace.bundle, target, renewed=name) as writer:
        assert writer.base is not None
        check_name(writer.base, name, adapted=adapted)
        yield writer


def _add_point(
    writer: BundleWriter,
    subspace: BundledSubspace,
    name: str,
    alpha: Alpha,
    source: tuple[str, StatisticsSet, Calibration],
    pixels: np.ndarray,
    record: Record,
) -> None:
    """Add the network at a place as a point, with its answers to the golden images.

    `source` is the statistics set that it takes: its name, its values and the images behind it.
    """
    network = subspace.network
    statistics_set, values, calibration = source
    statistics = values.at(alpha)
    answering = network.at(alpha, statistics)
    write_point(
        writer,
        network,
        name,
        alpha,
        statistics,
        input=subspace.bundle.manifest.input,
        pixels=pixels,
        expected=answering.logits(pixels),
        reference=THE_SKELETON,
        calibration=calibration,
        statistics_set=statistics_set,
        **vars(record),
    )
    images, golden = writer.golden
    writer.set_golden(images, golden | {name: answering.logits(_as_pixels(images))})


def check_name(bundle: Bundle, name: str, *, adapted: bool = True) -> None:
    """Raise `BundleError` unless a domain may have a name; an older domain of that name will be replaced.

    Args:
        bundle: where the domain will be added.
        name: the domain's.
        adapted: whether the domain has statistics of its own; one without never replaces one with.
    """
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > 100:
        raise BundleError(f"{name!r:.120} cannot name a domain; use letters, digits, '.', '_' and '-', at most 100")
    if name in _TAKEN:
        raise BundleError(f"{name} is a name that the bundle has for something else; choose another with --name")
    if name in bundle.manifest.domains:
        if not adapted and bundle.manifest.domains[name].statistics != TRAINING:
            raise BundleError(f"the bundle has an adapted domain {name}, which would be lost; choose another name")
        return
    if name in bundle.points or name in bundle.ensembles:
        raise BundleError(f"the bundle has a model of the name {name} that is no domain's; choose another with --name")


def _fingerprint(parts: Sequence[str]) -> str:
    """Return the fingerprint of one set of images, or one of several sets in their order."""
    return parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _as_pixels(images: np.ndarray) -> np.ndarray:
    """Return golden images in the graph's input format as uint8 pixels (N, H, W, C)."""
    if images.dtype == np.uint8:
        return images
    pixels: np.ndarray = np.rint(images.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
    return pixels
