"""The command `demo`: the whole road on bundled data, through the same commands that a user types."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from subspace_serve.cli.output import print_table

STANDARD = Path("runs/demo-standard")
LINE = Path("runs/demo-line")
TRAINING = "--data digits --arch cresnet8-8 --epochs 15 --batch-size 32 --overwrite"
PALE, CONTRAST, NOISE = 110.0, 0.5, 12.0
"""What a bad camera does: its black level (grey levels), contrast (a factor) and noise (deviation in grey levels)."""
UNLABELLED = 64

ASKED = 50
READY_WITHIN_SECONDS = 60


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the server; 0 takes a free one.")
def demo(port: int) -> None:
    """Train, evaluate, report, export, adapt, verify and serve a line on handwritten digits, in about a minute.

    Leaves its runs in runs/demo-standard and runs/demo-line, with a page about the latter in its folder.
    """
    # The layers for digits are so small that threads would spend longer waiting for each other than working.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.monotonic()
    _say("One ordinary network, to compare with.")
    _run(f"train {TRAINING} --subspace standard --out {STANDARD}")
    _say("A line of networks, in one run of the same length.")
    _run(f"train {TRAINING} --subspace line --out {LINE}")
    _say("Every network on the line alone, and opposite ones as ensembles of two.")
    _run(f"evaluate {LINE} --baseline {STANDARD} --plot {LINE}/line.png")
    _say("All of it on one page, with the error on the plane through the line and the ordinary network.")
    _run(f"report {LINE} --baseline {STANDARD}")
    _say("What is deployed: the midpoint and the ends as ordinary networks, and the line itself.")
    _run(f"export {LINE} --alpha midpoint --alpha endpoints")
    _say("Where it runs, a bad camera takes pale, noisy pictures: a few of them, without labels, adapt the whole line.")
    images, labelled = _take_pictures()
    _run(f"adapt {LINE}/bundle --images {images} --val-data {labelled} --name camera")
    _run(f"verify {LINE}/bundle")
    _say("The bundle behind HTTP, on digits, on digits as the camera takes them, and on what is no digit.")
    with _server(LINE / "bundle", port) as address:
        _ask(address)
    _say(f"Done in {time.monotonic() - started:.0f} s. The page is {LINE}/report/report.html; serve again with")
    click.echo(f"  subspace-serve serve {LINE}/bundle")


def _say(text: str) -> None:
    click.echo(f"\n{text}")


def _run(command: str) -> None:
    """Show a command and run it in this process, which has torch loaded already."""
    from subspace_serve.cli import cli

    click.echo(f"$ subspace-serve {command}")
    cli.main(shlex.split(command), standalone_mode=False)


def _take_pictures() -> tuple[Path, Path]:
    """Write validation images as the camera takes them: some without labels, and others with labels."""
    import numpy as np

    from subspace_serve.files import atomic_file
    from subspace_serve.run.opened import OpenRun

    run = OpenRun(LINE)
    pixels, labels = run.data.validation.take(np.arange(len(run.data.validation)))
    pictures = _as_the_camera(pixels, seed=0)
    for name, arrays in (
        ("camera.npz", {"images": pictures[:UNLABELLED]}),
        (
            "camera-labelled.npz",
            {
                "images": pictures[UNLABELLED:],
                "labels": labels[UNLABELLED:],
                "label_names": np.array(run.labels),
            },
        ),
    ):
        with atomic_file(LINE / name) as temporary, open(temporary, "wb") as opened:
            np.savez(opened, **arrays)
    return LINE / "camera.npz", LINE / "camera-labelled.npz"


def _as_the_camera(pixels: Any, seed: int) -> Any:
    import numpy as np

    noise = np.random.default_rng(seed).normal(0, NOISE, pixels.shape)
    return np.clip(PALE + pixels * CONTRAST + noise, 0, 255).round().astype(np.uint8)


@contextlib.contextmanager
def _server(bundle: Path, port: int) -> Iterator[str]:
    """Start `subspace-serve serve`, wait until it is ready, yield its address, stop it."""
    port = port or _free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["serve", str(bundle), "--port", str(port)]
    click.echo(f"$ subspace-serve {shlex.join(command)}")
    log = LINE / "server.log"
    with open(log, "w", encoding="utf-8") as output:
        entry = [sys.executable, "-c", "from subspace_serve.cli import main; main()"]
        server = subprocess.Popen([*entry, *command], stdout=output, stderr=subprocess.STDOUT)
    try:
        started = time.monotonic()
        while not _is_ready(address):
            if server.poll() is not None or time.monotonic() - started > READY_WITHIN_SECONDS:
                raise click.ClickException(
                    f"the server did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
                )
            time.sleep(0.1)
        click.echo(f"ready at {address} after {time.monotonic() - started:.1f} s")
        yield address
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _ask(address: str) -> None:
    """Ask for points, an ensemble, and a place between points with the camera's statistics; print means."""
    import numpy as np

    from subspace_serve.run.opened import OpenRun

    run = OpenRun(LINE)
    digits, labels = run.data.test.take(np.arange(ASKED))
    nothing = np.random.default_rng(2).integers(256, size=digits.shape, dtype=np.uint8)
    kinds = (("digits", digits), ("camera's", _as_the_camera(digits, seed=1)), ("no digits", nothing))
    asked: list[dict[str, Any]] = [
        {"model": "midpoint"}, {"model": "endpoints"}, {"model": "camera"}, {"alpha": 0.3, "domain": "camera"},
    ]  # fmt: skip
    click.echo(f"POST {address}/predict: {ASKED} test digits, the same as the camera takes them, and {ASKED} of noise")
    rows = []
    for options in asked:
        for kind, images in kinds:
            request = urllib.request.Request(
                f"{address}/predict",
                data=json.dumps({"images": images.tolist(), "top_k": 1} | options).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                predictions = json.load(response)["predictions"]
            best = np.array([prediction["labels"][0]["index"] for prediction in predictions])
            rows.append(
                [
                    ", ".join(f"{name} {value}" for name, value in options.items()),
                    kind,
                    "-" if images is nothing else f"{100 * (best == labels).mean():.0f}",
                    *(_mean(predictions, measure) for measure in ("entropy", "disagreement")),
                ]
            )
    print_table(["asked for", "images", "accuracy %", "mean entropy (nats)", "mean disagreement"], rows)


def _mean(predictions: list[dict[str, Any]], measure: str) -> str:
    """Return the mean of an uncertainty measure; a single network's answers have no disagreement."""
    values = [prediction[measure] for prediction in predictions if measure in prediction]
    return f"{sum(values) / len(values):.3f}" if values else "-"


COMMANDS = {"demo": demo}
