"""Choosing a point for several domains, against a plain loop: `python -m benchmarks.selection`.

The plain loop takes each of 21 places and each corruption in turn: collapse, recalibrate, evaluate everything. `select`
makes each network once for all corruptions, corrupts each image once for all networks, uses every core, drops a place
once it is clearly worse, and measures every other one of the 21 places first and then those next to the best. Both
choose by accuracy on the same images, here the test images of Fashion-MNIST in the role of validation images (no choice
made here is used). Also times the corruptions against `imagecorruptions-imaug`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.measure import at_least, environment, report, summary, use_threads
from subspace_serve.data import Images
from subspace_serve.data.domains import Domain, corrupted_domains
from subspace_serve.measure.evaluation import default_alphas
from subspace_serve.measure.networks import Networks
from subspace_serve.run.opened import OpenRun
from subspace_serve.select.candidates import candidates_of, neighbours
from subspace_serve.select.race import Race
from subspace_serve.space.place import Alpha, place
from trainer.modules import as_module
from trainer.preprocessing import preprocess

RUN = Path("runs/fashion-mnist-cresnet8-16-line-seed0-8epochs")
CORRUPTIONS = ("gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg_compression")
COARSE_PLACES = 11
PLACES = 2 * COARSE_PLACES - 1
TARGET_RATIO = 4.0
TARGET_LOSS = 0.002
_PLAIN_MINIBATCH = 256


@torch.inference_mode()
def accuracy(model: torch.nn.Module, images: Images, run: OpenRun) -> float:
    """Return a network's accuracy on all images, batch by batch as in a plain loop."""
    correct = 0
    for pixels, labels in images.batches(_PLAIN_MINIBATCH):
        correct += int((model(preprocess(pixels, run.preprocessing)).argmax(1).numpy() == labels).sum())
    return correct / len(images)


def plain(run: OpenRun, domains: Sequence[Domain], alphas: Sequence[Alpha]) -> dict[str, dict[Alpha, float]]:
    """Return the accuracy of every place in every domain."""
    table = {}
    for domain in domains:
        table[domain.name] = {
            place(alpha): accuracy(as_module(run.subspace, alpha, run.calibration), domain.images, run)
            for alpha in alphas
        }
        click.echo(f"plain loop: {domain.name}", err=True)
    return table


def fast(run: OpenRun, domains: Sequence[Domain]) -> tuple[dict[str, Alpha], dict[str, float]]:
    """Return the choice in each domain, and the fraction of all evaluations that it took."""
    networks = Networks(run.network, run.calibration)
    choices, shares = {}, {}
    for domain in domains:
        race = Race(networks, domain.images, "accuracy")
        race.run(candidates_of(run.subspace.geometry, "points", COARSE_PLACES, "probabilities"))
        race.run(neighbours(run.subspace.geometry, race.best(), COARSE_PLACES, 1))
        choices[domain.name] = race.best().members[0]
        evaluated = sum(len(scores) for scores in race.scores.values())
        shares[domain.name] = evaluated / (PLACES * len(domain.images))
        click.echo(f"race: {domain.name}, {100 * shares[domain.name]:.0f} % evaluated", err=True)
    return choices, shares


def selection_speed(run: OpenRun, count: int, rounds: int) -> dict[str, Any]:
    """Return the ratio of the times, and how much accuracy the choices lose against the best place."""
    images = run.data.test.subset(np.arange(min(count, len(run.data.test))))
    domains = corrupted_domains(images, "test", CORRUPTIONS, [3])
    alphas = default_alphas(run.subspace.geometry, PLACES)
    _ = run.calibration  # drawn before the clock runs
    seconds: dict[str, list[float]] = {"plain": [], "select": []}
    for _ in range(rounds):
        started = time.perf_counter()
        choices, shares = fast(run, domains)
        seconds["select"].append(time.perf_counter() - started)
        started = time.perf_counter()
        table = plain(run, domains, alphas)
        seconds["plain"].append(time.perf_counter() - started)
    lost = {name: max(values.values()) - values[choices[name]] for name, values in table.items()}
    ratios = [slow / quick for slow, quick in zip(seconds["plain"], seconds["select"], strict=True)]
    return {
        "images": len(images),
        "places": len(alphas),
        "corruptions": list(CORRUPTIONS),
        "seconds": seconds,
        "plain_over_select": at_least(TARGET_RATIO, summary(ratios)),
        "evaluated_share": shares,
        "choices": choices,
        "accuracy_lost": lost,
        "largest_loss": {"value": max(lost.values()), "at_most": TARGET_LOSS, "met": max(lost.values()) <= TARGET_LOSS},
    }


@click.command()
@click.option("--run", "path", type=click.Path(path_type=Path), default=RUN, show_default=True, help="A trained line.")
@click.option("--count", default=10_000, show_default=True, help="Images.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="About ten minutes each.")
@click.option("--corruption-rounds", type=click.IntRange(0), default=5, show_default=True, help="0 leaves them out.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Of torch; 0, the default, leaves it be.")
@click.option("--json", "json_file", metavar="FILE", help="Write the report to a file, too.")
def main(path: Path, count: int, rounds: int, corruption_rounds: int, threads: int, json_file: str | None) -> None:
    """Time selection against the plain loop, and corruptions against imagecorruptions-imaug."""
    use_threads(threads)
    document = {"environment": environment(), "selection": selection_speed(OpenRun(path, device="cpu"), count, rounds)}
    if corruption_rounds:
        from benchmarks.corruptions import corruption_speed

        document["corruptions"] = corruption_speed(corruption_rounds, 1000)
    report(document, json_file)


if __name__ == "__main__":
    main()
