"""The cost of exporting and serving a point: `python -m benchmarks.export`.

Prints one JSON document, with everything measured on the CPU on random images and weights:

- `export`: seconds that `export_bundle` takes for one point, less those of collapsing and recalibrating it, which are
  timed in turn with it. What remains is the check of its BatchNorm statistics, writing the graph, ONNX's full checker,
  parity with the skeleton, hashes and the bundle; the skeleton was made before. `first` is the first export of the
  process, with imports that are delayed until then.
- `help`: seconds of `subspace-serve --help`, and of an interpreter that does nothing.
- `serving`: a server with one worker, on a bundle of three points (midpoint and endpoints). Seconds until `/readyz`
  answers 200: `serve` from starting `subspace-serve serve`, which verifies the bundle first; `server` from starting
  `bentoml serve`; `worker` from the worker process's own start. Resident sets after every model has answered:
  `worker_bytes` of the worker, `server_bytes` of all the server's processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np
import torch

from benchmarks.measure import (
    at_most,
    environment,
    interleaved,
    measurement_options,
    report,
    summary,
    synthetic_images,
    timed,
    use_threads,
)
from benchmarks.servers import ROOT, Server, command_line, running
from subspace_serve.bundle import Bundle
from subspace_serve.data import MemoryImages, Preprocessing
from subspace_serve.export import BundlePlan, Origin, export_bundle
from subspace_serve.files import sha256_of
from subspace_serve.measure.conformal import SetsData
from subspace_serve.network.calibration_data import CalibrationData, draw_calibration_data
from subspace_serve.network.network import Network
from subspace_serve.space.alpha import parse_alphas
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.checkpoint import save_subspace
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace
from trainer.architectures import build
from trainer.modules import weights_of
from trainer.proof import proven_skeleton

SIDE, CHANNELS, CLASSES = 32, 3, 10
PREPROCESSING = Preprocessing(mean=(0.5,) * CHANNELS, std=(0.25,) * CHANNELS)
IMAGES, CALIBRATION_IMAGES = 3000, 1280

EXPORT_LIMIT = 10.0
HELP_LIMIT = 0.3
READY_LIMIT = 4.0
WORKER_LIMIT = 250e6

WORKER_IMPORTS = """
import sys
from service.bento import _engine
_engine.start().join()
assert _engine.ready
print("torch" in sys.modules)
"""


class Exporter:
    """Exports points of an untrained line, whose statistics and graphs cost as much as those of a trained one."""

    def __init__(
        self, architecture: str, *, side: int = SIDE, images: int = IMAGES, calibration: int = CALIBRATION_IMAGES
    ) -> None:
        network = Architecture(architecture, CLASSES, CHANNELS, side, side)
        ends = tuple(weights_of(build(network)) for _ in range(2))
        self.subspace = Subspace(Geometry("line", 2), network, ends)
        self.network = Network.of(self.subspace, proven_skeleton(network), PREPROCESSING)
        self.images: MemoryImages = synthetic_images(images, side, side, CHANNELS, CLASSES)
        self.calibration: CalibrationData = draw_calibration_data(
            self.images, PREPROCESSING, name="noise", count=calibration
        )

    def recalibrate(self) -> None:
        """Collapse and recalibrate the midpoint, and nothing else."""
        self.network.recalibrate(self.calibration.pixels(), alpha=0.5)

    def export(
        self, bundle: Path, *alphas: str, checkpoint: Path | None = None, labelled: MemoryImages | None = None
    ) -> None:
        """Write a bundle of points given as for `--alpha`; with a checkpoint file, it holds the subspace too.

        From `labelled` images it gets prediction sets and thresholds for abstaining.
        """
        request = parse_alphas(alphas, self.subspace.geometry, {})
        models = [*request.points, *request.ensembles]
        labels = [str(label) for label in range(CLASSES)]
        digest = sha256_of(save_subspace(self.subspace, checkpoint)) if checkpoint else "0" * 64
        export_bundle(
            Origin(self.subspace, self.network, PREPROCESSING, labels, digest, self.images, checkpoint=checkpoint),
            BundlePlan.of(
                request,
                dict.fromkeys(request.points, self.calibration),
                sets=None if labelled is None else dict.fromkeys(models, SetsData(labelled, "others")),
                subspace=self.calibration if checkpoint else None,
            ),
            bundle,
        )


def measure_export(exporter: Exporter, folder: Path, rounds: int) -> dict[str, Any]:
    """Return the seconds of one point's export without its calibration pass."""
    candidates = {
        "export": lambda: exporter.export(folder / "one-point", "midpoint"),
        "calibration": exporter.recalibrate,
    }
    calibration = timed(candidates["calibration"])
    first = timed(candidates["export"]) - calibration
    seconds = interleaved(candidates, rounds=rounds, warm_up=0)
    warm = [whole - part for whole, part in zip(seconds["export"], seconds["calibration"], strict=True)]
    return {
        "first": at_most(EXPORT_LIMIT, summary([first])),
        "later": at_most(EXPORT_LIMIT, summary(warm)),
        "calibration_left_out": summary(seconds["calibration"]),
    }


def measure_help(rounds: int) -> dict[str, Any]:
    """Return the seconds of `subspace-serve --help` and of an empty program."""
    candidates = {
        "subspace_serve": lambda: _run([*command_line(), "--help"]),
        "interpreter": lambda: _run([sys.executable, "-c", ""]),
    }
    seconds = interleaved(candidates, rounds=rounds, warm_up=1)
    return {
        "subspace_serve": at_most(HELP_LIMIT, summary(seconds["subspace_serve"])),
        "interpreter": summary(seconds["interpreter"]),
    }


def measure_serving(bundle: Path, rounds: int) -> dict[str, Any]:
    """Start servers on a bundle one after another; return how soon they are ready and how much memory they hold."""
    commands = {
        "serve": [*command_line(), "serve", "{bundle}"],
        "server": [sys.executable, "-m", "bentoml", "serve", "service:SubspaceService", "--host=127.0.0.1"],
    }
    starts: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as home:
        variables = {
            "BENTOML_HOME": home,
            "BENTOML_DO_NOT_TRACK": "true",
            "SUBSPACE_SERVE_BUNDLE": str(bundle),
            "SUBSPACE_SERVE_DEVICE": "cpu",
        }
        imports = _run([sys.executable, "-c", WORKER_IMPORTS], variables)
        for index in range(rounds):
            for name, command in commands.items():
                starts[name].append(_start(Server(name, [*command, "--port={port}"], "/readyz", variables), bundle))
            click.echo(f"round {index + 1} of {rounds}: serve, server", err=True)
    seconds = {name: [start["ready"] for start in started] for name, started in starts.items()}
    servers = starts["server"]
    return {
        "imports_torch": imports.strip() != "False",
        "serve": summary(seconds["serve"]),
        "server": at_most(READY_LIMIT, summary(seconds["server"])),
        "worker": at_most(READY_LIMIT, summary([start["worker_ready"] for start in servers])),
        "worker_bytes": at_most(WORKER_LIMIT, summary([start["worker_bytes"] for start in servers])),
        "server_bytes": summary([start["server_bytes"] for start in servers]),
    }


def _start(server: Server, bundle: Path) -> dict[str, float]:
    """Start a server, wait until it is ready, ask every model, and stop it; return times and resident sets."""
    with running(server, bundle) as started:
        with started.client() as client:
            _ask_every_model(client, bundle)
        supervisor, *workers = started.processes()
        # One worker, and perhaps a small process that tracks shared memory.
        worker = max(workers, key=lambda process: process.memory_info().rss)
        return {
            "ready": started.ready_seconds,
            "worker_ready": started.ready_seconds - (worker.create_time() - supervisor.create_time()),
            "worker_bytes": worker.memory_info().rss,
            "server_bytes": sum(process.memory_info().rss for process in (supervisor, *workers)),
        }


def _ask_every_model(client: httpx.Client, bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    images = np.zeros((16, *manifest.input.shape), np.uint8).tolist()
    for model in (*manifest.points, *manifest.ensembles):
        client.post("/predict", json={"images": images, "model": model}).raise_for_status()


def _run(command: Sequence[str], variables: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed."""
    environment = os.environ | (variables or {})
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


@click.command()
@measurement_options
@click.option("--architecture", default="cresnet20", show_default=True)
def main(rounds: int, threads: int, json_file: str | None, architecture: str) -> None:
    """Measure export, the command's start and a serving worker; print JSON."""
    use_threads(threads)
    torch.manual_seed(0)
    exporter = Exporter(architecture)
    document: dict[str, Any] = {
        "benchmark": "export",
        **environment(),
        "settings": {"architecture": architecture, "rounds": rounds},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        document["export"] = measure_export(exporter, folder, rounds)
        document["help"] = measure_help(rounds)
        exporter.export(folder / "bundle", "midpoint", "endpoints")
        document["serving"] = measure_serving(folder / "bundle", rounds)
    report(document, json_file)


if __name__ == "__main__":
    main()
