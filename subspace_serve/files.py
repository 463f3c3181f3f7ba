"""Writes that are whole or absent, and hashes of files."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
    """Yield a temporary path beside `target`; what is written there becomes `target` when the block ends well.

    When the block raises (a full disk, an interrupt) the old file stays and the temporary one is removed; when the
    process is killed, the old file stays.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        os.replace(temporary, target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


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

    A reader sees the old folder or the new one, never half of one, whenever the process is killed.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        for path in [*temporary.rglob("*"), temporary]:
            sync(path)
        _swap(temporary, target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
