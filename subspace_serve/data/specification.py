"""How a data set is named on the command line: NAME, NAME:PATH, FILE.npz, FOLDER, or NAME:PATH:TYPE:SEVERITY."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from subspace_serve.data.sources import CORRUPTED_READERS, READERS, Options, Source
from subspace_serve.data.sources.corrupted_sets import listed_contents, read_corrupted
from subspace_serve.errors import DataError
from subspace_serve.suggestions import did_you_mean

SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_PARTS_AFTER_PATH = 2


def split_of(spec: str) -> tuple[str, str | None]:
    """Split `SPEC:train`, `SPEC:validation` (or `val`) or `SPEC:test` into specification and split's name."""
    head, colon, tail = spec.rpartition(":")
    if colon and tail in SPLITS:
        return head, SPLITS[tail]
    return spec, None


def read_source(spec: str, options: Options) -> Source:
    """Read the data set that `spec` names, as published.

    Raises:
        DataError: nothing has that name, or it cannot be read.
    """
    name, colon, rest = spec.partition(":")
    if name in CORRUPTED_READERS:
        path, corruption, severity = _corrupted_parts(name, rest)
        return read_corrupted(name, CORRUPTED_READERS[name], path, corruption, severity, options)
    if name in READERS:
        if colon and not rest:
            raise DataError(f"the data set {spec!r} has a colon but no path; write {name} or {name}:PATH")
        return READERS[name](_path(rest), options)
    path_of_it = _path(spec)
    if path_of_it is not None and path_of_it.suffix == ".npz":
        return READERS["npz"](path_of_it, options)
    if path_of_it is not None and path_of_it.is_dir():
        return READERS["folder"](path_of_it, options)
    names = [*READERS, *CORRUPTED_READERS]
    hint = did_you_mean(name, names) or f"give a .npz file, a folder, or one of {', '.join(names)}"
    raise DataError(f"there is no data set {spec!r}: neither a name, nor a .npz file, nor a folder; {hint}")


def corruptions_in(spec: str) -> Mapping[str, tuple[int, ...]]:
    """Return the types of corruption in a set of corrupted images, with the severities of each.

    Args:
        spec: the set without type and severity, such as `cifar10-c:PATH`.

    Returns:
        Severities by type, the types sorted by name; empty for MNIST-C, which has none.

    Raises:
        DataError: `spec` names no such set, or nothing is there.
    """
    name, _, rest = spec.partition(":")
    if name not in CORRUPTED_READERS:
        known = ", ".join(f"{reader}:PATH" for reader in CORRUPTED_READERS)
        raise DataError(f"{spec!r} names no set of corrupted images; give one of {known}")
    path, corruption, _ = _corrupted_parts(name, rest)
    if corruption is not None:
        raise DataError(f"{spec!r} should end with the path; found {corruption!r} behind it; write {name}:{path}")
    return listed_contents(name, CORRUPTED_READERS[name], path)


def corrupted_folder(spec: str) -> Path | None:
    """Return the folder that a specification of corrupted images names; None of all others, and if it is not there."""
    for text in (spec, split_of(spec)[0]):  # a folder may be called test
        name, _, rest = text.partition(":")
        if name in CORRUPTED_READERS and rest and (path := _corrupted_parts(name, rest)[0]).is_dir():
            return path
    return None


def trains_nothing(spec: str) -> bool:
    """Return whether `spec` names a set that publishes test images only."""
    reader = CORRUPTED_READERS.get(spec.partition(":")[0])
    return reader is not None and not reader.trains


def _corrupted_parts(name: str, rest: str) -> tuple[Path, str | None, str | None]:
    """Split PATH, PATH:TYPE or PATH:TYPE:SEVERITY; a path may contain colons, so the longest existing one is taken."""
    if not rest:
        raise DataError(f"{name} needs the folder it lies in; found no path; write {name}:PATH:TYPE:SEVERITY")
    parts = rest.split(":")
    fewest = max(1, len(parts) - _PARTS_AFTER_PATH)
    for taken in range(len(parts), fewest - 1, -1):
        path = _expanded(":".join(parts[:taken]))
        if path.is_dir():
            break
    corruption, severity, *_ = [*parts[taken:], None, None]
    return path, corruption, severity


def _path(text: str) -> Path | None:
    return _expanded(text) if text else None


def _expanded(text: str) -> Path:
    return Path(os.path.expanduser(text))  # the method of Path raises where a user is unknown
