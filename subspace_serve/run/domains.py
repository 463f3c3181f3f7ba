"""Labelled images as domains of a run: as they lie on the disk, corrupted, or again from what a selection recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from subspace_serve.run.images import OWN_PARTS, is_copied, labelled_images

if TYPE_CHECKING:
    from subspace_serve.data import Images
    from subspace_serve.data.domains import Domain
    from subspace_serve.run.opened import OpenRun


_SEVERITY = 3
"""Of corruptions, where none is asked for."""


def is_corrupted_set(spec: str) -> bool:
    """Return whether a specification names a published set of corrupted images, such as `cifar10-c:PATH`."""
    from subspace_serve.data.sources import CORRUPTED_READERS

    return spec.partition(":")[0] in CORRUPTED_READERS


def labelled_domain(run: OpenRun, spec: str, name: str | None = None) -> Domain:
    """Return labelled images as a domain."""
    from subspace_serve.data.domains import Domain

    images = labelled_images(run, spec)
    return Domain(name or spec, images, _record(spec, images))


def corrupted_domains(
    run: OpenRun,
    spec: str,
    corruptions: Sequence[str],
    severities: Sequence[int] = (),
    preset: str | None = None,
    seed: int | None = None,
) -> list[Domain]:
    """Return corrupted images, a domain for each type and severity.

    Args:
        run: the run that they are for.
        spec: clean images, which are corrupted here; or a set of corrupted images in a published layout
            (`cifar10-c:PATH`), which holds them.
        corruptions: names, lists with commas, or `all`.
        severities: from 1 to 5; 3 when none is given, where the set has each type at several.
        preset: the severity table of images that are corrupted here; by their size when None.
        seed: of the noise; the run's option when None.

    Raises:
        DataError: there is no such type, severity or table, or a set that holds corrupted images takes none.
    """
    from subspace_serve.data import domains
    from subspace_serve.errors import DataError

    severities = list(dict.fromkeys(severities))
    if is_corrupted_set(spec):
        if preset is not None:
            raise DataError(
                f"{spec} holds images that are corrupted already, and a table of severities (--preset {preset}) says "
                "how to corrupt clean ones; leave it out"
            )
        return _published_corruptions(run, spec, corruptions, severities)
    from subspace_serve.data.corruptions import CORRUPTIONS, available
    from subspace_serve.data.corruptions.photographs import require_frost

    everything = [name.strip() for text in corruptions for name in text.split(",")]
    if "frost" in everything:
        require_frost()  # `all` leaves it out where it cannot be made
    known = available() if "all" in everything else CORRUPTIONS
    names = domains.parse_corruptions(corruptions, known)
    noise = run.seed if seed is None else seed
    clean = labelled_images(run, spec)
    record = _record(spec, clean)
    found = domains.corrupted_domains(clean, spec, names, severities or [_SEVERITY], preset=preset, seed=noise)
    return [replace(domain, record=domain.record | record) for domain in found]


def recorded_domain(run: OpenRun, record: Mapping[str, Any]) -> Domain:
    """Return a domain again from what a selection records of it.

    Raises:
        DataError: its images have changed since.
    """
    from subspace_serve.errors import DataError

    if "preset" in record:
        (domain,) = corrupted_domains(
            run, record["data"], [record["corruption"]], [record["severity"]], record["preset"], record["seed"]
        )
    else:  # images as they lie on the disk, be they corrupted
        domain = labelled_domain(run, record["data"])
    now = domain.record.get("fingerprint")
    if record.get("fingerprint", now) != now:  # an older selection may record none
        raise DataError(
            f"{record['data']} has changed since a place was chosen on it (its fingerprint differs); bring the "
            "old images back or select again"
        )
    return domain


def clean_part(run: OpenRun, spec: str) -> str:
    """Return which images are the clean ones of `spec`: itself, or what a set of corrupted images was made of.

    The published sets are corrupted test images; a copy by `subspace-serve corrupt` records its part.

    Raises:
        DataError: a copy was made of other images than the run's.
    """
    from subspace_serve.errors import DataError
    from subspace_serve.run.leakage import corrupted_copy

    if not is_corrupted_set(spec):
        return spec
    copy = corrupted_copy(spec)
    if copy is None:
        return "test"
    if not is_copied(run, copy):
        raise DataError(
            f"{spec} is a copy of other images than this run's {copy.split} images, so there are no clean ones to "
            f"compare with; evaluate one corruption as --data {spec}:{copy.corruptions[0]}:{copy.severities[0]}"
        )
    return copy.split


def _published_corruptions(
    run: OpenRun, spec: str, corruptions: Sequence[str], severities: Sequence[int]
) -> list[Domain]:
    from subspace_serve.data import corruptions_in
    from subspace_serve.data.domains import Domain, parse_corruptions
    from subspace_serve.errors import DataError

    found = corruptions_in(spec)
    domains = []
    for name in parse_corruptions(corruptions, tuple(found)):
        # A set without severities (MNIST-C) has each type once.
        if severities and not found[name]:
            raise DataError(f"{spec} has {name} once, and not by severities; leave --severity out")
        for tail in [f"{name}:{severity}" for severity in severities or [_SEVERITY]] if found[name] else [name]:
            severity = int(tail.rpartition(":")[2]) if found[name] else None
            data = f"{spec}:{tail}"
            images = labelled_images(run, data)
            record = _record(data, images) | {"corruption": name, "severity": severity}
            domains.append(Domain(tail, images, record))
    return domains


def _record(spec: str, images: Images) -> dict[str, Any]:
    """Return what is needed to load images again, and to notice that they have changed."""
    # The run's own parts are bound to it; other files may be changed until they are asked for again.
    return {"data": spec} if spec in OWN_PARTS else {"data": spec, "fingerprint": images.fingerprint()}
