"""The commands after training, against those of an earlier commit: `python -m benchmarks.road --before PATH`.

Each command is run as a whole process, in turn from the checkout at PATH and from this one, on a line of digits that
each of them trained with the demo's settings; with `--fashion-mnist` also an evaluation of 21 places on its 10,000 test
images. Prints median seconds, their ratio with its quartiles, and the largest resident set. Finally it prints the time
of batches of 64 with a static graph, relative to the skeleton with the same numbers.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import click
import onnxruntime

from benchmarks.measure import interleaved, ratio, synthetic_images
from subspace_serve.data import Preprocessing
from subspace_serve.network import Network
from subspace_serve.network.served import ServedGraph
from subspace_serve.network.sessions import session_options
from subspace_serve.space import Architecture, Geometry, Subspace
from trainer.architectures import build
from trainer.modules import weights_of
from trainer.proof import proven_skeleton

DIGITS = "train --data digits --arch cresnet8-8 --epochs 15 --batch-size 32 --out run"
FASHION = "train --data mnist:{path} --arch cresnet8-16 --epochs 1 --train-images 4000 --out run"
COMMANDS = {
    "inspect": "inspect run",
    "evaluate": "evaluate run --points 11",
    "select": "select run",
    "export": "export run --alpha midpoint --alpha endpoints",
}
FASHION_COMMANDS = {"evaluate fashion-mnist": "evaluate run --points 21"}
_MAIN = "from subspace_serve.cli import main; main()"


def run(checkout: Path, folder: Path, words: str) -> tuple[float, float]:
    """Run a command of a checkout in a folder; return seconds and the largest resident set in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", _MAIN, *words.split()],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        message = process.stderr.read().decode() if process.stderr else ""
        raise click.ClickException(f"{checkout}: {words} failed: {message[-500:]}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def compare(sides: dict[str, Path], training: str, commands: dict[str, str], rounds: int) -> None:
    """Let each checkout train, then time the commands of both in turn."""
    with tempfile.TemporaryDirectory() as temporary:
        folders = {side: Path(temporary) / side for side in sides}
        for side, folder in folders.items():
            folder.mkdir()
            seconds, _ = run(sides[side], folder, training)
            click.echo(f"train {side}: {seconds:.1f} s")
        for name, words in commands.items():
            measured: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
            for _ in range(rounds):
                for side, checkout in sides.items():
                    measured[side].append(run(checkout, folders[side], words))
            taken = {side: [found[0] for found in runs] for side, runs in measured.items()}
            ratios = ratio(taken["now"], taken["before"])
            memory = {side: max(found[1] for found in runs) for side, runs in measured.items()}
            click.echo(
                f"{name}: {statistics.median(taken['before']):.2f} s before, {statistics.median(taken['now']):.2f} s "
                f"now, ratio {ratios['median']} {ratios['quartiles']}; {memory['before']:.0f} MB before, "
                f"{memory['now']:.0f} MB now"
            )


def compare_graphs(architecture: str, side: int, rounds: int) -> None:
    """Time a static graph and the skeleton with the same numbers, in turn."""
    described = Architecture(architecture, 10, 3, side, side)
    endpoints = tuple(weights_of(build(described)) for _ in range(2))
    subspace = Subspace(Geometry("line", 2), described, endpoints)
    preprocessing = Preprocessing((0.5,) * 3, (0.5,) * 3)
    network = Network.of(subspace, proven_skeleton(described), preprocessing, device="cpu").with_threads(1)
    images = synthetic_images(64, side, side, 3, 10).pixels
    statistics_ = network.recalibrate(images, alpha=0.3)
    skeleton = network.at(0.3, statistics_).session
    static = onnxruntime.InferenceSession(
        ServedGraph(network).file(network.weights(0.3), statistics_),
        session_options(1),
        providers=["CPUExecutionProvider"],
    )
    sessions = {"static": static, "skeleton": skeleton}
    seconds = interleaved(
        {name: partial(session.run, ["logits"], {"image": images}) for name, session in sessions.items()},
        rounds=rounds,
        warm_up=5,
    )
    found = ratio(seconds["static"], seconds["skeleton"])
    click.echo(f"{architecture}, static graph / skeleton: {found['median']} {found['quartiles']}")


@click.command()
@click.option(
    "--before", type=click.Path(exists=True, path_type=Path), required=True, help="A checkout to compare with."
)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--only", multiple=True, type=click.Choice([*COMMANDS, "graphs"]), help="A part (repeatable).")
@click.option(
    "--fashion-mnist",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of Fashion-MNIST; measures an evaluation on it too.",
)
def main(before: Path, rounds: int, only: tuple[str, ...], fashion_mnist: Path | None) -> None:
    """Time the commands of two checkouts in turn."""
    sides = {"before": before.resolve(), "now": Path(__file__).resolve().parent.parent}
    wanted = {name: words for name, words in COMMANDS.items() if not only or name in only}
    if wanted:
        compare(sides, DIGITS, wanted, rounds)
    if fashion_mnist:
        compare(sides, FASHION.format(path=fashion_mnist), FASHION_COMMANDS, rounds)
    if not only or "graphs" in only:
        for architecture, side in (("cresnet8-16", 28), ("resnet18", 64), ("densenet121", 64)):
            compare_graphs(architecture, side, 10 * rounds)


if __name__ == "__main__":
    main()
