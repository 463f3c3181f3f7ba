"""State folders: whose they are, what is staged in them, and what is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from bundle_factory import make_bundle

from service.settings import Settings
from service.staging import BusyError, State, stage
from subspace_serve.errors import BundleError


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def age(folder: Path) -> None:
    os.utime(folder, (0, 0))


def test_folders_of_killed_servers_are_removed_and_those_that_are_held_are_not(temporary):
    code = "from service.staging import State; print(State.create().folder)"
    environment = {**os.environ, "TMPDIR": str(temporary)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=Path(__file__).parent.parent, capture_output=True, text=True
    )
    abandoned = Path(ended.stdout.strip())
    assert abandoned.is_dir()
    held = State.create()
    assert abandoned.is_dir()  # too young: it might be about to be locked
    for folder in (abandoned, held.folder):
        age(folder)
    State.create()
    assert not abandoned.exists()
    assert held.folder.is_dir()


def test_what_does_not_hold_leaves_the_current_bundle(temporary, tmp_path):
    own = make_bundle(tmp_path / "bundle")
    settings, state = Settings(bundle=own, device="cpu", threads=1), State.create()
    assert state.current() is None
    first = stage(settings, state)
    assert state.current() == Path(first["staged"])
    (own / "midpoint.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=str(own / "midpoint.onnx")):
        stage(settings, state)
    assert state.current() == Path(first["staged"])
    assert [folder.name for folder in (state.folder / "bundles").iterdir()] == [Path(first["staged"]).name]


def test_the_last_two_bundles_are_kept(temporary, tmp_path):
    settings, state = Settings(bundle=make_bundle(tmp_path / "bundle"), device="cpu", threads=1), State.create()
    staged = [Path(stage(settings, state)["staged"]) for _ in range(3)]
    assert sorted(staged) == staged
    assert [folder.is_dir() for folder in staged] == [False, True, True]
    assert state.current() == staged[-1]


def test_one_reload_at_a_time(temporary, tmp_path):
    settings, state = Settings(bundle=make_bundle(tmp_path / "bundle")), State.create()
    with state.locked(), pytest.raises(BusyError, match="another reload is under way"):
        stage(settings, state)
    assert state.current() is None


def test_workers_that_are_dead_do_not_count(temporary):
    state = State.create()
    state.is_loading()
    assert state.workers() == [""]
    state.serves(state.folder / "bundles" / "7")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (state.folder / "workers" / str(dead.pid)).write_text("6")
    assert state.workers() == ["7"]
    shutil.rmtree(state.folder)
