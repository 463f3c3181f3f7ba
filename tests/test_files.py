from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from subspace_serve import files
from subspace_serve.files import atomic_file, atomic_folder, sha256_of, write_text


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"subspace" * 300_000)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"subspace" * 300_000).hexdigest()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_that_fills_up_when_syncing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_text(target, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    (tmp_path / "link").symlink_to("file")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "report")
    assert os.read(reader, 100) == b"report"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_folder_takes_the_old_ones_place_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for content in ("old", "new"):
        with atomic_folder(target) as temporary:
            (temporary / content).write_text(content)
    assert os.listdir(target) == ["new"]
    assert os.listdir(tmp_path) == ["folder"]


def test_without_an_atomic_exchange_the_folder_is_still_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    test_a_folder_takes_the_old_ones_place_whole(tmp_path)


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_folder(target) as temporary:
        (temporary / "old").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["folder"]


REPLACE_FOREVER = """
import sys
from pathlib import Path
from subspace_serve.files import atomic_folder
for version in range(100_000):
    with atomic_folder(Path(sys.argv[1])) as folder:
        for name in "abc":
            (folder / name).write_text(str(version))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges folders in one step here")
def test_a_killed_writer_leaves_a_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for delay in (0.0, 0.013, 0.031, 0.055):
        process = subprocess.Popen(
            [sys.executable, "-c", REPLACE_FOREVER, str(target)], cwd=Path(__file__).parent.parent
        )
        deadline = time.monotonic() + 30
        while not target.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert sorted(os.listdir(target)) == ["a", "b", "c"]
        assert len({(target / name).read_text() for name in "abc"}) == 1
