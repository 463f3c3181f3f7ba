"""Writes that are whole or absent, and hashes of files."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path

_RANDOM = "[a-z0-9_]{8}"
"""What `tempfile` puts into the middle of a temporary name."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as a hexadecimal string."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flush a file's or a folder's contents to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield the path of an empty temporary file; what is written there becomes `target` when the block ends well.

    When the block raises (a full disk, an interrupt) the old file stays and the temporary one is removed; when the
    process is killed, the old file stays, and the next write to `target` removes the temporary one.
    """
    target = Path(target)
    # In a folder of its own, since some libraries write to a path by putting another file there.
    with _temporary_folder(target) as folder:
        temporary = folder / target.name
        temporary.touch()
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        os.replace(temporary, target)
        sync(target.parent)


def write_text(target: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; a symbolic link is followed, a device or a pipe is written to."""
    target = Path(target)
    if target.exists() and not target.is_file():
        target.write_text(text, encoding="utf-8")
        return
    with atomic_file(target.resolve()) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `target`; it replaces `target` when the block ends well.

    A reader sees the old folder or the new one, never half of one, whenever the process is killed; what a killed
    process left beside it is removed by the next write to `target`.
    """
    target = Path(target)
    with _temporary_folder(target) as temporary:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        for path in [*temporary.rglob("*"), temporary]:
            sync(path)
        _swap(temporary, target)
        sync(target.parent)


@contextlib.contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target` under this process's lock, after removing those of dead writers.

    The lock (flock) ends with the process however it ends, and unlike a process's id it means the same in every
    container that shares the folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    while True:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        with _locked(temporary) as lock:
            if lock is _Lock.TAKEN:  # until it was locked, another writer could take it for a leftover
                continue
            try:
                yield temporary
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary folders of `target` whose writers are dead."""
    temporary_name = re.compile(rf"\.{re.escape(target.name)}\.{_RANDOM}\.tmp")
    with os.scandir(target.parent) as entries:
        leftovers = [Path(entry.path) for entry in entries if temporary_name.fullmatch(entry.name)]
    for leftover in leftovers:
        with _locked(leftover) as lock:
            if lock is _Lock.OURS:
                shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold a folder while the block runs; yield whether no other process holds it.

    The lock ends with the process however it ends. A file system without locks holds nobody off.
    """
    with _locked(folder) as lock:
        yield lock is not _Lock.TAKEN


class _Lock(Enum):
    """What came of locking a folder: ours; another's, or gone by now; or one that cannot be locked."""

    OURS = auto()
    TAKEN = auto()
    UNKNOWN = auto()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[_Lock]:
    """Try to lock a folder while the block runs, without waiting."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield _Lock.TAKEN
        return
    except OSError:
        yield _Lock.UNKNOWN
        return
    try:
        yield _lock(descriptor, folder)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> _Lock:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _Lock.TAKEN
    except OSError:  # a file system without locks
        return _Lock.UNKNOWN
    # Its writer may have put it in the target's place in the meantime; then the name no longer means what is locked.
    try:
        same = os.path.samestat(os.fstat(descriptor), os.lstat(folder))
    except FileNotFoundError:
        same = False
    return _Lock.OURS if same else _Lock.TAKEN


def _swap(new: Path, target: Path) -> None:
    """Put folder `new` in the place of `target`; an old target ends up under the name `new`."""
    if not target.exists():
        os.rename(new, target)
    elif not _exchange(new, target):
        # No atomic exchange on this platform: the target is absent between the two renames.
        old = new.with_suffix(".old")
        os.rename(target, old)
        os.rename(new, target)
        os.rename(old, new)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two paths in one step with Linux's renameat2; return False where that is not to be had."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0


def _umask() -> int:
    """Return the process's umask (which can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
