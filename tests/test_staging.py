"""State folders: whose they are, what is staged in them, and what is left alone."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from bundle_factory import make_bundle

from service import staging, supervisor
from service.engine import Engine
from service.metrics import Metrics
from service.settings import Settings
from service.staging import BusyError, State, reload, stage
from subspace_serve.errors import BundleError
from subspace_serve.files import MANIFEST_FILE, sha256_of


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


@pytest.fixture
def staged(temporary, monkeypatch) -> State:
    """Return a state folder with three bundles; what is reloaded next is the second one, at once."""
    state = State.create()
    for number in range(1, 4):
        folder = state.next_bundle()
        folder.mkdir()
        (folder / MANIFEST_FILE).write_text(f"bundle {number}")
    second = state.folder / "bundles" / "0000000002"
    report = {"staged": str(second), "sha256": sha256_of(second / MANIFEST_FILE)}
    monkeypatch.setattr(staging, "stage_in_subprocess", lambda settings, state: report)
    monkeypatch.setattr(staging, "_RELOAD_SECONDS", 0.5)
    return state


@pytest.mark.parametrize("number", [2, 3])
def test_a_reload_is_done_when_its_bundle_or_a_later_one_is_served(staged, number):
    bundle = staged.folder / "bundles" / f"{number:010d}"
    staged.serves(bundle)
    assert asyncio.run(reload(Settings(), staged)) == sha256_of(bundle / MANIFEST_FILE)


def test_a_reload_waits_for_the_last_worker(staged):
    bundles = staged.folder / "bundles"
    for served in (None, "", "0000000001"):
        if served is not None:
            staged.serves(bundles / "0000000003")
            other = staged.folder / "workers" / str(os.getppid())
            other.write_text(served)
        with pytest.raises(BundleError, match="some worker still serves the old bundle"):
            asyncio.run(reload(Settings(), staged))
    other.write_text("0000000002")
    assert asyncio.run(reload(Settings(), staged)) == sha256_of(bundles / "0000000002" / MANIFEST_FILE)
    # A worker's bundle is gone: it is about to go on to a later one.
    shutil.rmtree(bundles / "0000000002")
    with pytest.raises(BundleError, match="some worker still serves"):
        asyncio.run(reload(Settings(), staged))


@pytest.mark.parametrize("error", [BusyError, BundleError])
def test_a_reload_that_gives_way_to_another_has_not_failed(temporary, monkeypatch, error):
    def refuse(settings: Settings, state: State) -> None:
        raise error("no")

    monkeypatch.setattr(staging, "stage_in_subprocess", refuse)
    metrics = Metrics()
    engine = Engine(Settings(), metrics, State.create())
    with pytest.raises(error):
        asyncio.run(engine.reload())
    assert ('reloads_total{result="failed"}' in metrics.render()[0].decode()) == (error is BundleError)


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


@pytest.mark.parametrize(
    ("error", "counted"), [(BusyError("another reload"), []), (BundleError("damaged"), ["failed"])]
)
def test_a_reload_by_signal_that_gives_way_has_not_failed(monkeypatch, error, counted):
    async def refused(*_: object) -> str:
        raise error

    monkeypatch.setattr(supervisor, "reload", refused)
    found: list[str] = []
    metrics = SimpleNamespace(reloads=lambda result: SimpleNamespace(inc=lambda: found.append(result)))
    supervisor._Supervisor._reload(SimpleNamespace(_settings=None, _state=None, _metrics=metrics))
    assert found == counted
