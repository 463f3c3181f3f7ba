"""Atomic writes of files and folders, what they may replace, and hashes of files."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from enum import Enum, auto
from pathlib import Path

from subspace_serve.errors import SubspaceServeError

MANIFEST_FILE = "manifest.json"
"""The file that marks a folder as a bundle."""

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


def pinned(path: Path) -> Path:
    """Return a path without links, as it was given where it has none: `runs/latest` may point elsewhere in a moment."""
    resolved, here = path.resolve(), Path.cwd()
    if resolved == path.absolute():
        return path
    return resolved.relative_to(here) if resolved.is_relative_to(here) else resolved


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield the path of an empty temporary file; it becomes `target` when the block succeeds.

    When the block raises (a full disk, an interrupt) the old file stays and the temporary one is removed; when the
    process is killed, the old file stays, and the next write to `target` removes the temporary one.
    """
    target = Path(target)
    # In a folder of its own, since some libraries write to a path by replacing the file.
    with temporary_folder(target) as folder:
        temporary = folder / target.name
        temporary.touch()
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        os.replace(temporary, target)
        sync(target.parent)


def write_text(target: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; a symbolic link is followed, a device, pipe or open file is written to."""
    target = Path(target)
    if (descriptor := descriptor_of(target)) is not None:
        # Written where the stream stands: a redirected file must be neither replaced nor begun anew.
        if sys.stdout is not None:
            sys.stdout.flush()
        with open(os.dup(descriptor), "w", encoding="utf-8") as stream:
            stream.write(text)
        return
    if target.exists() and not target.is_file():
        target.write_text(text, encoding="utf-8")
        return
    with atomic_file(target.resolve()) as temporary:
        temporary.write_text(text, encoding="utf-8")


def descriptor_of(path: Path) -> int | None:
    """Return the number of the process's open file that a path such as /dev/stdout names; None for other paths.

    A link to such a path counts as the path.
    """
    if path.is_symlink() and not str(path).startswith(("/dev/", "/proc/")):
        path = path.parent / os.readlink(path)
    named = {"/dev/stdout": "/dev/fd/1", "/dev/stderr": "/dev/fd/2"}.get(str(path), str(path))
    found = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", named)
    return int(found[1]) if found else None


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `target`; it replaces `target` when the block succeeds.

    A reader sees the old folder or the new one, never half of one, even if the process is killed. (Where the system
    cannot exchange two folders, `target` is absent for a moment.) What a killed process leaves behind is removed by the
    next write to `target`, or put back where the target was absent. A symbolic link is followed. Call
    `check_replaceable` first: this replaces anything.
    """
    target = Path(target).resolve()
    with temporary_folder(target) as temporary:
        _restore(target)
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
    """Refuse a target that `atomic_folder` must not or cannot replace; call it before the work.

    Args:
        target: the folder; one that is absent or empty, and no mount point, can always be replaced.
        foreign: given a folder's sorted names, returns those that a write would lose.
        message: of the error where there are any; `{target}` and `{found}` stand for the folder and these names.
        error: the type of error that is raised.
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
    """Return whether something is mounted at a folder; on Linux, bind mounts of the same device count too."""
    try:
        table = Path("/proc/self/mountinfo").read_bytes()
    except OSError:  # not Linux
        return os.path.ismount(folder)
    return os.path.realpath(folder) in mount_points(os.fsdecode(table))


def mount_points(mountinfo: str) -> set[str]:
    """Return the mount points in /proc/self/mountinfo: the fifth field, with spaces as octal escapes (proc(5))."""
    paths = [line.split(" ")[4] for line in mountinfo.split("\n") if line]
    return {re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path) for path in paths}


@contextlib.contextmanager
def temporary_folder(target: Path, *, hidden: bool = True) -> Iterator[Path]:
    """Yield a new folder beside `target` under this process's lock, after removing those of dead writers.

    The lock (flock) is released however the process ends, and unlike a process id it means the same in every container
    that shares the folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{'.' * hidden}{target.name}."
    _remove_leftovers(target.parent, prefix)
    while True:
        temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=target.parent))
        with _locked(temporary) as lock:
            if lock is _Lock.TAKEN:  # before it was locked, another writer took it for a leftover
                continue
            try:
                yield temporary
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return


def _remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove the temporary folders with that prefix whose writers are dead."""
    temporary_name = re.compile(rf"{re.escape(prefix)}{_RANDOM}\.tmp")
    with os.scandir(parent) as entries:
        leftovers = [Path(entry.path) for entry in entries if temporary_name.fullmatch(entry.name)]
    for leftover in leftovers:
        with _locked(leftover) as lock:
            if lock is _Lock.OURS:
                shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold a lock on a folder while the block runs; yield whether no other process holds it.

    The lock is released however the process ends. A link stands for the folder that it points at. On a file system
    without locks the answer is always yes.
    """
    # `_locked` follows no link, as is right for temporary folders, whose names anybody could take.
    with _locked(folder.resolve()) as lock:
        yield lock is not _Lock.TAKEN


class _Lock(Enum):
    """The result of locking a folder: it is ours; it is another's, or gone; or it cannot be locked."""

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
    # Its writer may have moved it into the target's place meanwhile; then the name no longer means the locked folder.
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
        shutil.move(target, old)  # copies where it must: overlayfs does not rename folders of a container's image
        try:
            os.rename(new, target)
        except BaseException:
            os.rename(old, target)
            raise
        os.rename(old, new)


def _restore(target: Path) -> None:
    """Put back an old target whose writer was killed before `_swap` had put the new one in its place, or remove it."""
    name = re.compile(rf"\.{re.escape(target.name)}\.{_RANDOM}\.old")
    for old in [path for path in target.parent.iterdir() if name.fullmatch(path.name)]:
        if old.with_suffix(".tmp").exists():  # which a living writer has
            continue
        if target.exists():  # the new one took its place
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, target)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two paths in one step with Linux's renameat2; return False where that is not available or fails."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0


def _umask() -> int:
    """Return the process's umask (which can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
