"""What unlabelled images of a domain are worth: `python -m benchmarks.adaptation`.

Trains a line and a standard network on 4,000 Fashion-MNIST images of 14 px with three seeds (or resumes their runs),
corrupts the test images, and measures networks whose BatchNorm statistics come from training images, from a few
unlabelled images of the domain, and from both mixed. Statistics and measurements never share images of the domain.
Writes one JSON document per run, so an interrupted benchmark goes on; and the tables and picture of docs/adaptation.md
with

    python -m benchmarks.adaptation --page docs/adaptation.md
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.adaptation_page import MARKER, draw_picture, page
from benchmarks.measure import environment
from benchmarks.tables import replace_tables
from subspace_serve.answers import apply_temperature, ensemble_probabilities, entropy_of, softmax
from subspace_serve.data import MemoryImages
from subspace_serve.data.domains import Domain
from subspace_serve.files import write_text
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.measure.temperature import fit_and_report
from subspace_serve.network.mixing import PRIOR, mixed, sampling_noise
from subspace_serve.network.network import Network
from subspace_serve.network.statistics_set import (
    KnownStatistics,
    StatisticsSet,
    compute_statistics,
    even_batches,
    interpolation_error,
)
from subspace_serve.run.domains import corrupted_domains
from subspace_serve.run.opened import OpenRun
from subspace_serve.select import select
from subspace_serve.space.lattice import Lattice
from subspace_serve.space.place import Alpha
from trainer.config import TrainingConfig
from trainer.training import train

CORRUPTIONS = (
    "gaussian_noise", "impulse_noise", "defocus_blur", "motion_blur", "fog", "brightness", "contrast",
    "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
COUNTS = (8, 16, 32, 128, 512)
MEASURED, POOL, LABELLED = 1000, 4000, 256
DRAWS = 2
CALIBRATION = 2048
SETTINGS: dict[str, Any] = {
    "data": "fashion-mnist", "image_size": 14, "train_images": 4000, "architecture": "cresnet8-32", "epochs": 100,
    "device": "cpu",
}  # fmt: skip
OF_LINES = {"spread": 1.0}
"""Places spread over the whole run, as they did by default when the page's lines were trained."""
BETWEEN = (0.025, 0.13, 0.29, 0.375, 0.52, 0.675, 0.81, 0.975)


class Measured:
    """One run's networks, and the images on which they are measured."""

    def __init__(self, run: Path) -> None:
        self.run = OpenRun(run, calibration_count=CALIBRATION)
        self.network: Network = self.run.network
        geometry = self.network.geometry
        self.middle = geometry.midpoint
        self.ends = geometry.ends if geometry.endpoints > 1 else []
        training = compute_statistics(self.network, self.run.calibration.pixels).with_degree(2)
        images = self.run.calibration.images.take(np.arange(CALIBRATION))[0]
        self.training = replace(training, noise=sampling_noise(self.network, training, images))

    def domains(self, severities: Iterable[int]) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
        """Yield each domain's name, and the pixels and labels of its images; the clean domain comes first."""
        wanted = np.arange(MEASURED + POOL)
        yield "clean", *self.run.data.test.take(wanted)
        for domain in corrupted_domains(self.run, "test", CORRUPTIONS, list(severities)):
            yield domain.name, *domain.images.take(wanted)

    def statistics(self, images: np.ndarray, places: list[Alpha] | None = None) -> StatisticsSet:
        return compute_statistics(self.network, lambda: even_batches(images), only=places)

    def logits(self, statistics: StatisticsSet, alpha: Alpha, images: np.ndarray) -> np.ndarray:
        return self.network.at(alpha, statistics.at(alpha)).logits(images)

    def rules(self) -> dict[str, Any]:
        """Return the midpoint's accuracy by domain, number of images and rule for mixing statistics."""
        plain = replace(self.training, noise=None)
        rules = {
            "own": (plain, 0.0),
            "prior 16": (plain, 16.0),
            "prior 64": (plain, 64.0),
            "default": (self.training, 16.0),
        }
        found: dict[str, Any] = {}
        for name, pixels, labels in self.domains([1, 3]):
            images, right = pixels[:MEASURED], labels[:MEASURED]
            accuracy = partial(self._accuracy, images=images, labels=right)
            entry: dict[str, Any] = {"training": accuracy(self.training)}
            for count in COUNTS[:-1]:
                sums = dict.fromkeys(rules, 0.0)
                for draw in range(DRAWS):
                    own = self.statistics(_drawn(pixels[MEASURED:], count, draw), [self.middle])
                    for rule, (training, prior) in rules.items():
                        sums[rule] += accuracy(self._mixed(own, training, prior)) / DRAWS
                entry[str(count)] = sums
            found[name] = entry
        return found

    def sizes(self) -> dict[str, Any]:
        """Return metrics of the midpoint and the ends' ensemble, by domain and number of images."""
        found: dict[str, Any] = {}
        places = [self.middle, *self.ends]
        for name, pixels, labels in self.domains([3]):
            images, right = pixels[:MEASURED], labels[:MEASURED]
            entry = {"training": [self._metrics(self.training, images, right)]}
            for count in COUNTS:
                entry[str(count)] = [
                    self._metrics(
                        self._mixed(self.statistics(_drawn(pixels[MEASURED:], count, draw), places)),
                        images,
                        right,
                    )
                    for draw in range(DRAWS)
                ]
            found[name] = entry
        return found

    def chosen(self) -> dict[str, Any]:
        """Return metrics, by domain, of places chosen with labels and without, on statistics of 128 images."""
        found: dict[str, Any] = {}
        for name, pixels, labels in self.domains([3]):
            images, right = pixels[:MEASURED], labels[:MEASURED]
            unlabelled = _drawn(pixels[MEASURED:-LABELLED], 128, 0)
            own = self._mixed(self.statistics(unlabelled))
            without = np.stack([softmax(self.logits(own, alpha, unlabelled)) for alpha in own.knots])
            accuracy = partial(self._accuracy, images=images, labels=right, statistics=own)
            places = {
                "midpoint": self.middle,
                "lowest entropy": own.knots[int(np.argmin([entropy_of(one).mean() for one in without]))],
                "nearest to the mean answer": own.knots[
                    int(np.argmin([np.abs(one - without.mean(0)).mean() for one in without]))
                ],
                "best of all knots (oracle)": max(own.knots, key=lambda alpha: accuracy(alpha=alpha)),
            }
            # Also from the domain, but used neither for its statistics nor for measuring.
            labelled = MemoryImages(pixels[-LABELLED:], labels[-LABELLED:])
            temperatures = {}
            for metric in ("accuracy", "nll"):
                choice = select(
                    self.network,
                    [Domain("domain", labelled, {"data": name})],
                    calibration=KnownStatistics(own, {}),
                    metric=metric,
                )["domain"]
                how = f"labels, by {metric}"
                places[how] = choice["alpha"]
                there = softmax(self.logits(own, choice["alpha"], labelled.pixels))
                temperatures[how] = fit_and_report(there, labelled.labels).temperature
            answers = {how: softmax(self.logits(own, alpha, images)) for how, alpha in places.items()}
            found[name] = {
                how: classification_metrics(one, right) | {"alpha": places[how]} for how, one in answers.items()
            }
            for how, temperature in temperatures.items():
                found[name][f"{how}, and a temperature"] = classification_metrics(
                    apply_temperature(answers[how], temperature), right
                ) | {"temperature": temperature}
        return found

    def skewed(self) -> dict[str, Any]:
        """Return the midpoint's accuracy on all classes after streams that hold only some of them."""
        found: dict[str, Any] = {}
        for name, pixels, labels in self.domains([3]):
            images, right = pixels[:MEASURED], labels[:MEASURED]
            accuracy = partial(self._accuracy, images=images, labels=right)
            entry: dict[str, Any] = {"training": accuracy(self.training)}
            for classes in (1, 2, 5, 10):
                accuracies = []
                for draw in range(DRAWS):
                    present = np.random.RandomState(draw).permutation(self.network.classes)[:classes]
                    stream = pixels[MEASURED:][np.isin(labels[MEASURED:], present)]
                    own = self.statistics(_drawn(stream, 128, draw), [self.middle])
                    accuracies.append({"own": accuracy(own), "default": accuracy(self._mixed(own))})
                entry[str(classes)] = accuracies
            found[name] = entry
        return found

    def interpolation(self) -> dict[str, Any]:
        """Return the worst error between knots, by their number and the degree of the variances' polynomials."""
        if not self.ends:
            return {}
        images, labels = self.run.data.test.take(np.arange(MEASURED))
        found = {}
        for parts in (2, 4, 10, 20):
            lattice = Lattice(self.network.geometry, parts)
            rows = [self.network.recalibrate(self.run.calibration.pixels(), alpha=knot) for knot in lattice.knots]
            values = np.stack([row.values for row in rows])
            for degree in (1, 2):
                between = StatisticsSet(lattice, values, self.training.variances, CALIBRATION, degree)
                found[f"{parts + 1} knots, degree {degree}"] = interpolation_error(
                    self.network, between, self.run.calibration.pixels, images, labels, places=BETWEEN
                )
        return found

    def _mixed(self, own: StatisticsSet, training: StatisticsSet | None = None, prior: float = PRIOR) -> StatisticsSet:
        return mixed(own, training or self.training, self.network.skeleton, prior=prior)[0]

    def _accuracy(
        self, statistics: StatisticsSet, *, images: np.ndarray, labels: np.ndarray, alpha: Alpha | None = None
    ) -> float:
        logits = self.logits(statistics, self.middle if alpha is None else alpha, images)
        return float((logits.argmax(1) == labels).mean())

    def _metrics(self, statistics: StatisticsSet, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        middle = softmax(self.logits(statistics, self.middle, images))
        found = {"midpoint": classification_metrics(middle, labels)}
        if self.ends:
            ends = [self.logits(statistics, alpha, images) for alpha in self.ends]
            found["ends"] = classification_metrics(ensemble_probabilities(ends), labels)
        return found


def _drawn(images: np.ndarray, count: int, draw: int) -> np.ndarray:
    return images[np.random.RandomState(draw).permutation(len(images))[:count]]


def trained(method: str, seed: int, runs: Path, data: str) -> Path:
    """Train a run, or resume it where it stopped."""
    own = OF_LINES if method == "line" else {}
    config = TrainingConfig(**SETTINGS | own | {"data": data, "subspace": method, "seed": seed})
    folder = runs / f"{method}-{seed}"
    train(config, folder, resume=(folder / "config.json").exists())
    return folder


@click.command()
@click.option("--data", default="fashion-mnist", show_default=True, help="Where Fashion-MNIST is: fashion-mnist:PATH.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/adaptation"), show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--page",
    "page_file",
    type=click.Path(exists=True, path_type=Path),
    help="Replace the tables of this page, and the picture beside it.",
)
def main(data: str, runs: Path, seeds: int, page_file: Path | None) -> None:
    """Measure what unlabelled images are worth."""
    documents: dict[str, list[dict[str, Any]]] = {"line": [], "standard": []}
    for seed in range(seeds):
        for method, found in documents.items():
            folder = trained(method, seed, runs, data)
            file = runs / f"{method}-{seed}.json"
            document = json.loads(file.read_text()) if file.exists() else {"environment": environment()}
            for part in ("sizes", "rules", "chosen", "skewed", "interpolation"):
                if part not in document:
                    click.echo(f"{folder}: {part}")
                    document[part] = getattr(Measured(folder), part)()
                    write_text(file, json.dumps(document, indent=1) + "\n")
            found.append(document)
    if page_file is not None:
        replace_tables(page_file, page(documents), MARKER)
        draw_picture(documents, page_file.with_suffix(".png"))


if __name__ == "__main__":
    main()
