"""What a bundle may be written in the place of: an older bundle, of which no domain is lost without a word."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from subspace_serve.bundle.manifest import FORMAT, Domain, Manifest, StatisticsRecord, parse_manifest
from subspace_serve.bundle.reader import Bundle
from subspace_serve.errors import BundleError
from subspace_serve.files import MANIFEST_FILE, check_replaceable
from subspace_serve.suggestions import listed

GOLDEN_FILE = "golden.npz"
"""Images and every point's answers to them, which each bundle has."""


def is_bundle(folder: Path) -> bool:
    """Return whether a folder holds a bundle, be it damaged or of another version; no, where that cannot be read."""
    try:
        return FORMAT.encode() in (folder / MANIFEST_FILE).read_bytes()
    except OSError:
        return False


def check_outside_bundles(target: Path | str) -> None:
    """Raise `BundleError` if `target` lies in a bundle, which would be damaged: it holds its own files alone."""
    around = Path(os.path.abspath(target)).parent.resolve()
    for folder in (around, *around.parents):
        # A manifest alone, as `export --json` writes it, makes no bundle of the folder that it lies in.
        if is_bundle(folder) and (folder / GOLDEN_FILE).is_file():
            raise BundleError(
                f"{target} lies in the bundle {folder}, which holds its own files alone; choose another place with "
                "--out"
            )


def check_target(target: Path | str) -> None:
    """Raise `BundleError` unless a bundle can be written at `target`; nothing but an older one is ever replaced."""
    check_outside_bundles(target)
    check_replaceable(
        Path(target),
        lambda names: [] if is_bundle(Path(target)) else names,
        "{target} exists and is not a bundle; move it away, or choose another place for the bundle",
        BundleError,
    )


def check_no_domains(target: Path | str) -> None:
    """Raise `BundleError` if the bundle at `target` has domains, which a new one in its place would lack."""
    if lost := _domains_at(target):
        raise BundleError(
            f"{target} has {_named_domains(lost)}, which would be lost; choose another folder with --out, or give up "
            "what adapt and select wrote there with --drop-domains"
        )


def check_domains_kept(base: Bundle, target: Path | str, *, renewed: str | None = None) -> None:
    """Raise `BundleError` if the bundle at `target` has domains which an extension of another in its place would lack.

    Args:
        base: the bundle that is extended.
        target: where the extension is written.
        renewed: the domain that is added, in the place of an older one of its name.
    """
    kept = _domains_of(base.manifest)
    if lost := [name for name, old in _domains_at(target).items() if name != renewed and kept.get(name) != old]:
        raise BundleError(
            f"{target} has {_named_domains(lost)}, which would be lost; adapt that bundle itself, or choose another "
            "folder with --out"
        )


def _domains_at(folder: Path | str) -> dict[str, tuple[Domain, StatisticsRecord]]:
    """Return the domains of the bundle in a folder; none where no bundle can be read."""
    try:
        manifest = parse_manifest(Path(folder, MANIFEST_FILE).read_bytes())
    except (OSError, BundleError):
        return {}
    return _domains_of(manifest)


def _domains_of(manifest: Manifest) -> dict[str, tuple[Domain, StatisticsRecord]]:
    """Return a bundle's domains with their statistics, by which two of one name are told apart."""
    statistics = manifest.subspace.statistics if manifest.subspace else {}
    return {name: (domain, statistics[domain.statistics]) for name, domain in manifest.domains.items()}


def _named_domains(names: Collection[str]) -> str:
    return f"the domain{'s' * (len(names) > 1)} {listed(list(names))}"
