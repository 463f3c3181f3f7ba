"""How a data set is named on the command line: NAME, NAME:PATH, FILE.npz or FOLDER."""

from __future__ import annotations

import difflib
from pathlib import Path

from subspace_serve.data.sources import READERS, Options, Source
from subspace_serve.errors import DataError

SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def split_of(spec: str) -> tuple[str, str | None]:
    """Divide `SPEC:train`, `SPEC:validation` (or `val`) or `SPEC:test` into specification and split."""
    head, colon, tail = spec.rpartition(":")
    if colon and tail in SPLITS:
        return head, SPLITS[tail]
    return spec, None


def read_source(spec: str, options: Options) -> Source:
    """Read the data set that `spec` names, as published.

    Raises:
        DataError: nothing has that name, or what has it cannot be read.
    """
    name, colon, rest = spec.partition(":")
    if name in READERS:
        if colon and not rest:
            raise DataError(f"the data set {spec!r} has a colon but no path; write {name} or {name}:PATH")
        return READERS[name](_path(rest), options)
    path = _path(spec)
    if path is not None and path.suffix == ".npz":
        return READERS["npz"](path, options)
    if path is not None and path.is_dir():
        return READERS["folder"](path, options)
    near = difflib.get_close_matches(name, READERS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"give a .npz file, a folder, or one of {', '.join(READERS)}"
    raise DataError(f"there is no data set {spec!r}: neither a name, nor a .npz file, nor a folder; {hint}")


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None
