"""One process at a time changes a bundle, or a run's selections."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from subspace_serve.errors import BundleError

_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.1


@contextlib.contextmanager
def locked(*folders: Path | str, patience: float = _PATIENCE_SECONDS) -> Iterator[None]:
    """Let one process at a time read folders and change them or put others in their places; an absent one has no lock.

    Args:
        folders: bundles, or runs.
        patience: how long to wait for other processes, in seconds.

    Raises:
        BundleError: another process held one of them for longer.
    """
    with contextlib.ExitStack() as held:
        # Each once, since a lock stops its own process too; in one order, so that two processes cannot both wait.
        for folder in sorted({Path(folder).resolve() for folder in folders}):
            held.enter_context(_locked(folder, patience))
        yield


@contextlib.contextmanager
def _locked(folder: Path, patience: float) -> Iterator[None]:
    end = time.monotonic() + patience
    while (descriptor := _opened(folder)) is not None:
        try:
            with contextlib.suppress(OSError):  # a file system without locks is left alone
                while not _is_ours(descriptor):
                    if time.monotonic() > end:
                        raise BundleError(f"another process trains or changes {folder}; try again when it is done")
                    time.sleep(_LOOK_SECONDS)
            # While this waited, another folder may have taken the name.
            if _is_at(descriptor, folder):
                yield
                return
        finally:
            os.close(descriptor)
    yield


def _opened(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None


def _is_ours(descriptor: int) -> bool:
    """Lock a folder without waiting; return whether no other process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder))
    except FileNotFoundError:
        return False
