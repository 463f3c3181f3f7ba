"""Servers that are stopped, or whose supervisor or disk is gone, while requests are answered."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from image_files import png

from stress import LONG
from stress.answers import answered, difference, good_cases, probabilities
from stress.bundles import Kind, sound_images, write
from stress.cases import Case
from stress.server import serving
from stress.traffic import Tally, drive, under_load
from stress.wire import Reply, document, form, request

pytestmark = pytest.mark.slow

WAITING = 40


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("stopped") / "bundle", {"second": Kind(products=50)})


def is_last(reply: Reply | None) -> bool:
    return reply is None or reply.headers.get("connection") == "close"


def slow_case(seed: int) -> Case:
    images = sound_images(1, seed)
    expected = probabilities(images, ["second"], [1.0], "logits")
    data = document("/predict", {"images": images.tolist(), "model": "second"})
    return Case("slow", data, check=lambda reply: difference(answered(reply), expected))


def test_nothing_is_lost_when_the_server_is_stopped(bundle, tmp_path):
    quick = [case for case in good_cases(sound_images(1)) if case.request.startswith(b"POST")]
    with serving(bundle, tmp_path, workers=2, drain=2, grace=30) as server:
        waiting = Tally()

        def wait() -> None:
            waiting.statuses += asyncio.run(drive(server.port, map(slow_case, range(WAITING)), WAITING)).statuses

        with under_load(server.port, quick, 4, last=is_last) as tally:
            queue = threading.Thread(target=wait)
            queue.start()
            server.until(lambda: server.metric("requests_held") >= WAITING / 2)
            server.signal(signal.SIGTERM)
            server.until(lambda: server.request("GET", "/readyz")[0] == 503)
            # While those that are in flight, and those that still come, are answered.
            queue.join()
            assert server.ended() == 0
        assert waiting.statuses == {200: WAITING}
        assert not tally.wrong, tally.wrong
        assert set(tally.statuses) == {200}
        print(f"\nstopped: {tally}, and {WAITING} that waited")
        assert "Traceback" not in server.log
        assert is_free(server.port)
        assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.skipif(not LONG, reason="STRESS=long runs it")
def test_it_ends_though_a_worker_hangs(bundle, tmp_path):
    """The supervisor waits half a minute for a sign of life before it looks at signals again."""
    with serving(bundle, tmp_path, workers=2, drain=0, grace=3) as server:
        hanging = server.workers()[0]
        hanging.send_signal(signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        assert server.ended(60) == 0
        assert not hanging.is_running()
        assert is_free(server.port)


@pytest.mark.skipif(not LONG, reason="STRESS=long runs it")
def test_workers_of_a_killed_supervisor_end_and_free_the_port(bundle, tmp_path):
    with serving(bundle, tmp_path, workers=2) as server, under_load(server.port, good_cases(sound_images(1)), 4):
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == []
        assert is_free(server.port)


@pytest.mark.skipif(not LONG, reason="STRESS=long runs it")
def test_it_ends_though_clients_hang(bundle, tmp_path):
    """Connections that are idle, in the middle of a head or of a body do not hold the server up."""
    with serving(bundle, tmp_path, workers=2, drain=0, grace=4) as server, contextlib.ExitStack() as stack:
        data = document("/predict", {"images": sound_images(1).tolist()})
        for end in (0, 20, -20) * 4:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(data[:end] if end else b"")
        server.signal(signal.SIGTERM)
        assert server.ended(15) == 0


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 16 MiB there; skips where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here ({mounted.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave not one byte free."""
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.skipif(not LONG, reason="STRESS=long runs it")
def test_a_full_disk_stops_nothing(bundle, tmp_path):
    cases = good_cases(sound_images(1))
    with small_disk(tmp_path / "temporary") as disk, serving(bundle, tmp_path, workers=2) as server:
        noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
        workers = {worker.pid for worker in server.workers()}
        fill(disk)
        for seed in range(20):
            tally = asyncio.run(drive(server.port, good_cases(sound_images(2, seed)), 4))
            assert not tally.wrong, tally.wrong
        large = request("/predict_image", *form(("images", "image.png", png(noise))))
        tally = asyncio.run(drive(server.port, [Case("large", large)], 1))
        assert not tally.wrong, tally.wrong
        assert {worker.pid for worker in server.workers()} == workers
        server.signal(signal.SIGHUP)
        server.until(lambda: "ERROR still serving the old bundle" in server.log)
        assert "No space left on device" in server.log
        (disk / "filler").unlink()
        tally = asyncio.run(drive(server.port, cases, 4))
        assert not tally.wrong, tally.wrong


def is_free(port: int) -> bool:
    """Whether nobody listens on a port any more."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False
