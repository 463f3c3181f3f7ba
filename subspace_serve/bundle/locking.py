"""One process at a time changes a bundle, or a run's selections."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from subspace_serve.errors import BundleError
from subspace_serve.files import held

_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.1


@contextlib.contextmanager
def locked(*folders: Path | str, patience: float | None = None) -> Iterator[None]:
    """Let one process at a time read folders and change them or put others in their places; an absent one has no lock.

    Args:
        folders: bundles, or runs.
        patience: how long to wait for other processes, in seconds; a minute when None.

    Raises:
        BundleError: another process held one of them for longer.
    """
    with contextlib.ExitStack() as locks:
        # Each once, since a lock stops its own process too; in one order, so that two processes cannot both wait.
        for folder in sorted({Path(folder).resolve() for folder in folders}):
            locks.enter_context(_locked(folder, _PATIENCE_SECONDS if patience is None else patience))
        yield


@contextlib.contextmanager
def _locked(folder: Path, patience: float) -> Iterator[None]:
    end = time.monotonic() + patience
    while folder.exists():
        with held(folder) as ours:  # not so either where another folder took the name meanwhile
            if ours:
                yield
                return
        if time.monotonic() > end:
            raise BundleError(f"another process trains or changes {folder}; try again when it is done")
        time.sleep(_LOOK_SECONDS)
    yield
