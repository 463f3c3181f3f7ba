from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from subspace_serve import files
from subspace_serve.errors import BundleError
from subspace_serve.files import atomic_file, atomic_folder, descriptor_of, pinned, sha256_of, write_text


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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's names of open files")
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_redirected_stream_keeps_all_that_is_written(tmp_path: Path, name: str) -> None:
    code = f"from subspace_serve.files import write_text; print('a'); write_text('{name}', 'b\\n'); print('c')"
    with open(tmp_path / "log", "w") as log:
        subprocess.run([sys.executable, "-c", code], check=True, stdout=log, timeout=60)
    assert (tmp_path / "log").read_text() == "a\nb\nc\n"
    assert os.listdir(tmp_path) == ["log"]


def test_a_link_to_a_stream_is_the_stream(tmp_path: Path) -> None:
    (tmp_path / "out.json").symlink_to("/dev/stdout")
    assert [descriptor_of(path) for path in (tmp_path / "out.json", Path("/dev/stderr"), tmp_path)] == [1, 2, None]


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


def test_without_an_atomic_exchange_the_old_folder_is_put_back_when_the_new_one_cannot_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "folder", os.rename
    write("atomic_folder", target)

    def fail(source: Path, destination: Path) -> None:
        if Path(source).suffix == ".tmp":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, destination)

    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"), atomic_folder(target) as temporary:
        (temporary / "new").write_text("new")
    assert os.listdir(target) == ["whole"]
    assert os.listdir(tmp_path) == ["folder"]


def test_an_old_folder_whose_writer_was_killed_before_the_new_one_came_is_put_back(tmp_path: Path) -> None:
    target, old = tmp_path / "folder", tmp_path / ".folder.abcd1234.old"
    (old / "content").mkdir(parents=True)
    with pytest.raises(RuntimeError), atomic_folder(target):
        raise RuntimeError
    assert os.listdir(target) == ["content"]
    assert os.listdir(tmp_path) == ["folder"]


def test_a_folder_of_a_containers_image_is_replaced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").write_text("old")
    rename = os.rename

    def like_overlayfs(source: Path, destination: Path) -> None:
        if (Path(source) / "old").exists() and Path(source) == target:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, destination)

    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    monkeypatch.setattr(os, "rename", like_overlayfs)
    write("atomic_folder", target)
    assert os.listdir(target) == ["whole"]
    assert os.listdir(tmp_path) == ["folder"]


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


WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from subspace_serve import files
with getattr(files, sys.argv[1])(Path(sys.argv[2])) as temporary:
    (temporary / "half" if temporary.is_dir() else temporary).write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def writer(function: str, target: Path) -> Iterator[subprocess.Popen]:
    """Yield another process that is in the middle of writing `target`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_WAIT, function, str(target)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_library_that_puts_another_file_there_is_safe_from_other_writers(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with atomic_file(target) as temporary:
        (temporary.parent / "another").write_text("first")
        os.replace(temporary.parent / "another", temporary)
        write_text(target, "second")
        assert temporary.read_text() == "first"
    assert target.read_text() == "first"
    assert os.listdir(tmp_path) == ["target"]


def write(function: str, target: Path) -> None:
    with getattr(files, function)(target) as temporary:
        (temporary / "whole" if temporary.is_dir() else temporary).write_text("whole")


@pytest.mark.parametrize("function", ["atomic_file", "atomic_folder"])
def test_what_a_killed_writer_left_is_removed_by_the_next_write(function: str, tmp_path: Path) -> None:
    with writer(function, tmp_path / "target"):
        pass
    (leftover,) = os.listdir(tmp_path)
    assert leftover.startswith(".target.")
    write(function, tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == [leftover, "other"]
    write(function, tmp_path / "target")
    assert sorted(os.listdir(tmp_path)) == ["other", "target"]


def test_what_a_killed_process_left_in_the_open_is_removed_too(tmp_path: Path) -> None:
    for name in ("build.abcd1234.tmp", ".build.abcd1234.tmp", "build.tmp"):
        (tmp_path / name).mkdir()
    with files.temporary_folder(tmp_path / "build", hidden=False) as folder:
        assert sorted(os.listdir(tmp_path)) == sorted([".build.abcd1234.tmp", "build.tmp", folder.name])
        assert folder.name.startswith("build.")
    assert sorted(os.listdir(tmp_path)) == [".build.abcd1234.tmp", "build.tmp"]


@pytest.mark.parametrize("function", ["atomic_file", "atomic_folder"])
def test_what_a_living_writer_works_on_is_left_alone(function: str, tmp_path: Path) -> None:
    with writer(function, tmp_path / "target"):
        (temporary,) = os.listdir(tmp_path)
        write(function, tmp_path / "target")
        assert sorted(os.listdir(tmp_path)) == [temporary, "target"]


def test_only_what_has_the_name_of_a_leftover_is_removed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / ".target.aaaaaaaa.tmp").symlink_to("elsewhere")
    kept = [".target.notes.tmp", ".target.x.abcd1234.tmp", "target.abcd1234.tmp", ".target.abcd1234.tmp.old"]
    for name in [*kept, ".target.abcd1234.tmp"]:
        (tmp_path / name).mkdir()
    write_text(tmp_path / "target", "new")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, ".target.aaaaaaaa.tmp", "elsewhere", "target"])


@pytest.mark.parametrize("function", ["atomic_file", "atomic_folder"])
def test_without_locks_writes_work_and_nothing_is_removed(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    (tmp_path / ".target.abcd1234.tmp").mkdir()
    write(function, tmp_path / "target")
    assert sorted(os.listdir(tmp_path)) == [".target.abcd1234.tmp", "target"]


def test_a_new_temporary_that_another_took_for_a_leftover_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = files.tempfile.mkdtemp

    def robbed(**place: str) -> str:
        made.append(real(**place))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(files.tempfile, "mkdtemp", robbed)
    write("atomic_folder", tmp_path / "target")
    assert len(made) == 2
    assert os.listdir(tmp_path) == ["target"]
    assert (tmp_path / "target" / "whole").read_text() == "whole"


STORM = """
import sys
from pathlib import Path
from subspace_serve.files import atomic_folder
for version in range(60):
    with atomic_folder(Path(sys.argv[1])) as folder:
        for name in "abc":
            (folder / name).write_text(f"{sys.argv[2]} {version}")
"""


def test_writers_at_the_same_time_do_not_harm_each_other(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    processes = [
        subprocess.Popen([sys.executable, "-c", STORM, str(target), str(index)], cwd=Path(__file__).parent.parent)
        for index in range(3)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert os.listdir(tmp_path) == ["target"]
    assert sorted(os.listdir(target)) == ["a", "b", "c"]
    assert len({(target / name).read_text() for name in "abc"}) == 1


MOUNTINFO = """\
22 1 0:21 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/lower
30 22 0:26 / /proc rw,nosuid - proc proc rw
41 22 259:1 /home/me/bundle /srv/my\\040bundle rw,relatime - ext4 /dev/root rw
42 22 259:1 /x /odd\\134\\011name rw - ext4 /dev/root rw
"""


def test_mount_points_are_read_from_the_kernels_table() -> None:
    assert files.mount_points(MOUNTINFO) == {"/", "/proc", "/srv/my bundle", "/odd\\\tname"}


def test_without_the_kernels_table_devices_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: Path) -> bytes:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_bytes", absent)
    assert files.is_mount_point(Path("/"))
    assert not files.is_mount_point(tmp_path)


def replaceable(target: Path) -> None:
    files.check_replaceable(
        target, lambda names: [name for name in names if name != "own"], "{target} holds {found}", BundleError
    )


def test_only_what_is_absent_empty_or_ones_own_is_replaceable(tmp_path: Path) -> None:
    replaceable(tmp_path / "absent")
    replaceable(tmp_path)
    (tmp_path / "own").write_text("")
    replaceable(tmp_path)
    for name in "fedcba":
        (tmp_path / name).write_text("")
    with pytest.raises(BundleError, match=f"^{tmp_path} holds a, b, c, d, e$"):
        replaceable(tmp_path)
    with pytest.raises(BundleError, match="found a file at .*/own, which is no folder; move it away"):
        replaceable(tmp_path / "own")


BIND = """
import sys
from pathlib import Path
from subspace_serve.errors import SubspaceServeError
from subspace_serve.files import atomic_folder, check_replaceable
for target in map(Path, sys.argv[1:]):
    try:
        check_replaceable(target, lambda names: names, "")
        print("free")
    except SubspaceServeError as error:
        print(error)
with atomic_folder(Path(sys.argv[1]) / "inside") as folder:
    (folder / "whole").touch()
"""


def test_a_folder_of_the_same_device_that_is_mounted_is_refused(tmp_path: Path) -> None:
    volume, link = tmp_path / "my volume", tmp_path / "link"
    volume.mkdir()
    link.symlink_to(volume)
    assert not files.is_mount_point(volume)
    script = 'mount --bind "$1" "$1" || exit 99; shift; exec "$@"'
    words = [sys.executable, "-c", BIND, str(volume), str(link), str(volume / "inside")]
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", str(volume), *words],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if (done.returncode and "unshare:" in done.stderr) or done.returncode == 99:
        pytest.skip(f"mounting is not allowed here ({done.stderr.strip()})")
    assert done.returncode == 0, done.stderr
    refused, by_link, free = done.stdout.splitlines()
    assert refused.startswith(f"{volume} is a mount point")
    assert refused.endswith(f"choose a folder inside it, such as {volume}/my volume")
    assert by_link.startswith(f"{link} is a mount point")
    assert free == "free"
    assert os.listdir(volume / "inside") == ["whole"]


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    write("atomic_folder", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "folder") == ["whole"]
    assert sorted(os.listdir(tmp_path)) == ["folder", "link"]


def test_a_path_is_pinned_where_links_point_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/first").mkdir(parents=True)
    Path("runs/latest").symlink_to("first")
    assert pinned(Path("runs/latest/bundle")) == Path("runs/first/bundle")
    assert [pinned(Path(path)) for path in (".", "runs/first")] == [Path("."), Path("runs/first")]
    Path("inside").mkdir()
    monkeypatch.chdir("inside")
    assert pinned(Path("../runs/latest")) == tmp_path / "runs" / "first"


def test_a_folder_is_held_under_the_name_of_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for first, second in (("folder", "link"), ("link", "folder")):
        with files.held(tmp_path / first) as ours, files.held(tmp_path / second) as taken:
            assert (ours, taken) == (True, False)
