"""Writes that are whole or absent, what they may replace, and hashes of files."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from enum import Enum, auto
from pathlib import Path

from subspace_serve.errors import SubspaceServeError

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
    with temporary_folder(target) as folder:
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
    process left beside it is removed by the next write to `target`. A symbolic link is followed. What may be replaced
    is for `check_replaceable` to say.
    """
    target = Path(target).resolve()
    with temporary_folder(target) as temporary:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        for path in [*temporary.rglob("*"), temporary]:
            sync(path)
        _swap(temporary, target)
        sync(target.parent)


def check_replaceable(
    target: Path,
    foreign: Callable[[list[str]], Collection[str]],
    message: str,
    error: type[SubspaceServeError] = SubspaceServeError,
) -> None:
    """Refuse a target whose place `atomic_folder` must not or cannot take; call it before the work.

    Args:
        target: what is absent or an empty folder can always be replaced.
        foreign: returns those of a folder's names, in order, that a write would lose.
        message: says that there are some; `{target}` and `{found}` stand in it for the folder and for these names.
        error: what is raised.
    """
    target = Path(target)
    if not target.exists():
        return
    if not target.is_dir():
        raise error(f"found a file at {target}, which is no folder; move it away, or choose another path")
    if is_mount_point(target):
        raise error(
            f"{target} is a mount point (as a container's volume is), and no other folder can be put in its place; "
            f"choose a folder inside it, such as {target / (target.name or 'new')}"
        )
    if found := sorted(foreign(sorted(os.listdir(target)))):
        raise error(message.format(target=target, found=", ".join(found[:5])))


def is_mount_point(folder: Path) -> bool:
    """Return whether something is mounted at a folder: on Linux also another folder of the same device."""
    try:
        table = Path("/proc/self/mountinfo").read_bytes()
    except OSError:  # no Linux
        return os.path.ismount(folder)
    return os.path.realpath(folder) in mount_points(os.fsdecode(table))


def mount_points(mountinfo: str) -> set[str]:
    """Return the paths that /proc/self/mountinfo names: the fifth field, with blanks as octal numbers (proc(5))."""
    paths = [line.split(" ")[4] for line in mountinfo.split("\n") if line]
    return {re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path) for path in paths}


@contextlib.contextmanager
def temporary_folder(target: Path, *, hidden: bool = True) -> Iterator[Path]:
    """Yield a new folder beside `target` under this process's lock, after removing those of dead writers.

    The lock (flock) ends with the process however it ends, and unlike a process's id it means the same in every
    container that shares the folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{'.' * hidden}{target.name}."
    _remove_leftovers(target.parent, prefix)
    while True:
        temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=target.parent))
        with _locked(temporary) as lock:
            if lock is _Lock.TAKEN:  # until it was locked, another writer could take it for a leftover
                continue
            try:
                yield temporary
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return


def _remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove the temporary folders of that prefix whose writers are dead."""
    temporary_name = re.compile(rf"{re.escape(prefix)}{_RANDOM}\.tmp")
    with os.scandir(parent) as entries:
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
        shutil.move(target, old)  # which copies what a container's image holds: overlayfs does not rename it
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
