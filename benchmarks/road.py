"""The road after training, against an earlier commit: `python -m benchmarks.road --before PATH`.

Whole processes, in turn: each command once from the checkout at PATH and once from this one, on a line of digits that
each of them trained with the demo's settings. Printed are medians of seconds, their ratio with its quartiles, and the
largest resident set.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

TRAIN = "train --data digits --arch cresnet8-8 --epochs 15 --batch-size 32 --out run"
COMMANDS = {
    "inspect": "inspect run",
    "evaluate": "evaluate run --points 11",
    "select": "select run",
    "export": "export run --alpha midpoint --alpha endpoints",
}
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


@click.command()
@click.option(
    "--before", type=click.Path(exists=True, path_type=Path), required=True, help="A checkout to compare with."
)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(COMMANDS)), help="Commands (repeatable).")
def main(before: Path, rounds: int, only: tuple[str, ...]) -> None:
    """Time the commands of two checkouts in turn."""
    sides = {"before": before.resolve(), "now": Path(__file__).resolve().parent.parent}
    with tempfile.TemporaryDirectory() as temporary:
        folders = {side: Path(temporary) / side for side in sides}
        for side, folder in folders.items():
            folder.mkdir()
            seconds, _ = run(sides[side], folder, TRAIN)
            click.echo(f"train {side}: {seconds:.1f} s")
        for name in only or COMMANDS:
            measured: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
            for _ in range(rounds):
                for side, checkout in sides.items():
                    measured[side].append(run(checkout, folders[side], COMMANDS[name]))
            seconds_of = {side: [found[0] for found in runs] for side, runs in measured.items()}
            ratios = [now / then for then, now in zip(seconds_of["before"], seconds_of["now"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
            memory = {side: max(found[1] for found in runs) for side, runs in measured.items()}
            click.echo(
                f"{name}: {statistics.median(seconds_of['before']):.2f} s before, "
                f"{statistics.median(seconds_of['now']):.2f} s now, ratio {middle:.2f} ({low:.2f} to {high:.2f}); "
                f"{memory['before']:.0f} MB before, {memory['now']:.0f} MB now"
            )


if __name__ == "__main__":
    main()
