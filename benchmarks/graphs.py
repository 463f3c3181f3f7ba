"""What smaller and portable graphs cost and gain on Fashion-MNIST: `python -m benchmarks.graphs`.

Trains a line with each seed, writes its midpoint and its ends in float32, fp16 and int8, the ends' ensemble as one
graph, and the line as one graph with alpha as an input. Measures accuracy and NLL on the test images, also of the
midpoint with test-time flips (the answers to an image and to its mirror image, averaged: two passes, as an ensemble of
two takes), and speed in turns on this machine, also of a larger network, whose weights do not matter for it. Prints one
JSON document and draws docs/graphs.png.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import click
import matplotlib.pyplot as plt
import numpy as np
import onnx
from onnx import ModelProto

from benchmarks.export import PREPROCESSING, Exporter
from benchmarks.measure import at_least, at_most, environment, interleaved, measurement_options, ratio, report
from subspace_serve.answers import ensemble_probabilities
from subspace_serve.bundle.manifest import Input
from subspace_serve.bundle.manifest import Preprocessing as ManifestPreprocessing
from subspace_serve.bundle.selection import Selection
from subspace_serve.bundle.session import PointSession, load_graph, open_session
from subspace_serve.data import Images, Preprocessing, load_data
from subspace_serve.data.images import in_chunks
from subspace_serve.export.fused.graph import fuse
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.network.calibration_data import CalibrationData, draw_calibration_data
from subspace_serve.network.dynamic import ALPHA, dynamic_graph
from subspace_serve.network.network import Network
from subspace_serve.network.reduced import instructions, reduce_graph
from subspace_serve.network.served import ServedGraph
from subspace_serve.network.statistics_set import compute_statistics
from trainer.config import TrainingConfig
from trainer.training import train

DATA, ARCHITECTURE = "fashion-mnist", "cresnet8-16"
LARGER = "cresnet20-32"
TRAINING = {"train_images": 20_000, "epochs": 5, "batch_size": 64}
SEEDS = (0, 1, 2)
PLACES = {"midpoint": 0.5, "endpoint-0": 0.0, "endpoint-1": 1.0}
ENDS = ("endpoint-0", "endpoint-1")
PRECISIONS: tuple[Literal["float32", "fp16", "int8"], ...] = ("float32", "fp16", "int8")
BATCH = 16
INT8_SPEED, INT8_DROP, FUSED_COST, DYNAMIC_COST = 1.35, 0.5, 1.02, 2.2
CALIBRATION_BATCHES, KNOT_BATCHES = 4, 8
CHART = Path(__file__).parent.parent / "docs" / "graphs.png"


class Graphs:
    """The graphs of one trained line, in files, and their sessions.

    Args:
        folder: for the files.
        network: the line.
        images: for calibration.
        preprocessing: the network's normalisation.
        seed: of the calibration images.
        threads: of the sessions.
    """

    def __init__(
        self, folder: Path, network: Network, images: Images, preprocessing: Preprocessing, seed: int, threads: int
    ) -> None:
        height, width, channels = images.shape
        normalisation = ManifestPreprocessing(mean=preprocessing.mean, std=preprocessing.std)
        self.input = Input(height=height, width=width, channels=channels, preprocessing=normalisation)
        self.classes = network.classes
        self._threads = threads
        calibration = draw_calibration_data(images, preprocessing, name="train", count=2048, seed=seed)
        self.files = dict(self._points(folder, network, calibration))
        self.sessions = {name: self._open(file) for name, file in self.files.items()}
        fused = folder / "fused.onnx"
        onnx.save(self._fused(), fused)
        self.fused = self._open(fused)
        knots = compute_statistics(network, lambda: islice(calibration.pixels(), KNOT_BATCHES))
        dynamic = folder / "dynamic.onnx"
        dynamic.write_bytes(dynamic_graph(network, knots))
        self.dynamic = load_graph(dynamic, device="cpu", threads=threads)

    def logits(self, name: str, pixels: np.ndarray) -> np.ndarray:
        """Return a graph's logits (N, classes), a batch at a time."""
        parts = in_chunks(pixels, 250)
        return np.concatenate([self.sessions[name].logits(np.ascontiguousarray(part)) for part in parts])

    def _points(self, folder: Path, network: Network, calibration: CalibrationData) -> Any:
        served = ServedGraph(network)
        ranges = list(islice(calibration.pixels(), CALIBRATION_BATCHES))
        for name, alpha in PLACES.items():
            graph = served.file(network.weights(alpha), network.recalibrate(calibration.pixels(), alpha=alpha))
            for precision in PRECISIONS:
                file = folder / f"{name}-{precision}.onnx"
                file.write_bytes(graph if precision == "float32" else reduce_graph(graph, precision, ranges).data)
                yield f"{name}-{precision}", file

    def _open(self, file: Path) -> PointSession:
        return open_session(file, self.input, self.classes, device="cpu", threads=self._threads)

    def _fused(self) -> ModelProto:
        members = tuple(f"{end}-float32" for end in ENDS)
        selection = Selection("ends", members, (0.5, 0.5), "probabilities")
        return fuse("ends", self.files, selection, input=self.input, classes=self.classes)


def quality(graphs: Graphs, pixels: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the metrics of every rival on the test images, and the share of flipped answers by precision."""
    logits = {name: graphs.logits(name, pixels) for name in graphs.files}
    rows = {}
    for precision in PRECISIONS:
        midpoint = [logits[f"midpoint-{precision}"]]
        ends = [logits[f"{end}-{precision}"] for end in ENDS]
        for name, members in ((f"midpoint, {precision}", midpoint), (f"ends, {precision}", ends)):
            rows[name] = classification_metrics(ensemble_probabilities(members), labels)
        flips = midpoint[0].argmax(1) != logits["midpoint-float32"].argmax(1)
        rows[f"midpoint, {precision}"]["flips"] = float(flips.mean())
    mirrored = graphs.logits("midpoint-float32", pixels[:, :, ::-1])
    both = ensemble_probabilities([logits["midpoint-float32"], mirrored])
    rows["midpoint with flips, float32"] = classification_metrics(both, labels)
    return rows


def speed(graphs: Graphs, pixels: np.ndarray, rounds: int) -> dict[str, Any]:
    """Return ratios of times of one batch, each candidate in turn."""
    mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
    outputs = [value.name for value in graphs.fused.session.get_outputs()]

    def run(*names: str) -> Callable[[], object]:
        return lambda: [graphs.sessions[name].logits(pixels) for name in names]

    def ends(precision: str) -> Callable[[], object]:
        return run(*(f"{end}-{precision}" for end in ENDS))

    candidates: dict[str, Callable[[], object]] = {
        **{f"midpoint, {precision}": run(f"midpoint-{precision}") for precision in PRECISIONS},
        **{f"ends, {precision}": ends(precision) for precision in PRECISIONS},
        "midpoint with flips, float32": lambda: [
            graphs.sessions["midpoint-float32"].logits(batch) for batch in (pixels, mirrored)
        ],
        "fused": lambda: graphs.fused.session.run(outputs, {"image": pixels}),
        "dynamic": lambda: graphs.dynamic.run(["logits"], {"image": pixels, ALPHA: np.array([0.4], np.float32)}),
    }
    seconds = interleaved(candidates, rounds=rounds, warm_up=3)
    base = "midpoint, float32"
    found = {f"{name} / {base}": ratio(values, seconds[base]) for name, values in seconds.items()}

    def pair(first: str, second: str) -> dict[str, Any]:
        """Return a ratio of two that take turns alone, so that others do not empty their caches."""
        names = {first: candidates[first], second: candidates[second]}
        own = interleaved(names, rounds=rounds, warm_up=3)
        return ratio(own[first], own[second])

    return found | {
        "throughput of int8": at_least(INT8_SPEED, pair(base, "midpoint, int8")),
        "fused / its members": at_most(FUSED_COST, pair("fused", "ends, float32")),
        "dynamic / static": at_most(DYNAMIC_COST, pair("dynamic", base)),
    }


def trained(seed: int, runs: Path) -> Network:
    """Train a line, or take the run that is there."""
    folder = runs / f"line-{seed}"
    if not (folder / "skeleton.onnx").exists() or not (folder / "subspace.safetensors").exists():
        config = TrainingConfig(data=DATA, architecture=ARCHITECTURE, subspace="line", seed=seed, **TRAINING)
        train(config, folder)
    return Network.open(folder, device="cpu")


def chart(document: dict[str, Any], file: Path) -> None:
    """Draw accuracy and NLL of every rival over its time, means over seeds with their sample standard deviations."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    markers = {"float32": "o", "fp16": "s", "int8": "^"}
    colours = {"midpoint": "tab:blue", "ends": "tab:orange", "midpoint with flips": "tab:green"}
    for axis, metric, scale, label in zip(
        axes, ("accuracy", "nll"), (100, 1), ("accuracy, %", "negative log-likelihood"), strict=True
    ):
        for name in document["seeds"][0]["quality"]:
            who, _, precision = name.rpartition(", ")
            values = [scale * run["quality"][name][metric] for run in document["seeds"]]
            cost = document["speed"][f"{name} / midpoint, float32"]["median"]
            error = statistics.stdev(values) if len(values) > 1 else 0
            axis.errorbar(
                cost, statistics.mean(values), yerr=error, marker=markers[precision], color=colours[who],
                label=name, linestyle="none", capsize=2,
            )  # fmt: skip
        axis.set_xlabel("time, of the float midpoint's")
        axis.set_ylabel(label)
        axis.set_xlim(0)
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=7)
    figure.savefig(file, dpi=110)
    plt.close(figure)


@click.command(help=__doc__)
@measurement_options
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/graphs"), show_default=True)
@click.option("--test-images", type=click.IntRange(100), default=10_000, show_default=True)
def main(rounds: int, threads: int, json_file: str | None, runs: Path, test_images: int) -> None:
    data = load_data(DATA)
    pixels, labels = data.test.take(np.arange(min(test_images, len(data.test))))
    document: dict[str, Any] = {"instructions": instructions(), "threads": threads, "seeds": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            place = Path(folder) / str(seed)
            place.mkdir()
            graphs = Graphs(place, trained(seed, runs), data.train, data.preprocessing, seed, threads)
            document["seeds"].append({"seed": seed, "quality": quality(graphs, pixels, labels)})
            click.echo(f"seed {seed}: {document['seeds'][-1]['quality']}", err=True)
        document["speed"] = speed(graphs, np.ascontiguousarray(pixels[:BATCH]), rounds)
        document["speed of one image"] = speed(graphs, np.ascontiguousarray(pixels[:1]), rounds)
        (large := Path(folder) / "large").mkdir()
        exporter = Exporter(LARGER, images=400)
        larger = Graphs(large, exporter.network, exporter.images, PREPROCESSING, 0, threads)
        noise, _ = exporter.images.take(np.arange(BATCH))
        document[f"speed of {LARGER}"] = speed(larger, noise, rounds)
        document[f"speed of one image, {LARGER}"] = speed(larger, noise[:1], rounds)
        sizes = {name: file.stat().st_size for name, file in graphs.files.items()}
    document["bytes"] = {precision: sizes[f"midpoint-{precision}"] for precision in PRECISIONS}
    drops = [
        100 * (run["quality"]["midpoint, float32"]["accuracy"] - run["quality"]["midpoint, int8"]["accuracy"])
        for run in document["seeds"]
    ]
    document["drop of int8"] = at_most(INT8_DROP, {"median": statistics.median(drops), "all": drops})
    report(document | environment(), json_file)
    chart(document, CHART)


if __name__ == "__main__":
    main()
