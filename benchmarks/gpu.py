"""What training does on a GPU: `python -m benchmarks.gpu --data PATH`, at most 10 minutes on a recent one.

PATH is a folder with Fashion-MNIST's four files. Prints one JSON line for each figure as soon as it is known, so a run
that is cut off leaves those before:

- `environment`: hardware and versions.
- `agreement`: a line's first steps on the device, in float32 (TensorFloat-32 off) and bfloat16, against the CPU's: the
  largest relative difference of the losses.
- `speed`: steps a second of a line and of a standard network, and their ratio, with CUDA graphs and without: cresnet20,
  batches of 128 of 32x32, and ResNet-50, batches of 32 of 224x224; random images, augmentation included.
- `trained`: cresnet20 on all of Fashion-MNIST at 28 px, 60 epochs as in the paper: standard, line, simplex of 3, two
  seeds; accuracy and the like on the test images. `training` lines say how far each is.
- `export`: a line's midpoint as torch's own exporter writes it, in ONNX Runtime on the CPU, against torch.

Needs no network, and of packages torch, onnx, onnxruntime, safetensors, scikit-learn, click, Pillow and what
these need.
`--tiny` runs the same code on a CPU in some seconds, with a thin ResNet-50.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import torch

import benchmarks.plain_settings  # noqa: F401  before everything that imports pydantic
from benchmarks.in_memory import InMemory
from benchmarks.measure import environment, interleaved, ratio, summary, synthetic_images
from subspace_serve.data import Augmentation, DataSet, Preprocessing
from trainer.config import TrainingConfig
from trainer.preparation import prepared_data
from trainer.presets import PAPER_METHOD
from trainer.schedule import StepSettings

KINDS: dict[str, dict[str, Any]] = {
    "standard": {"subspace": "standard"},
    "line": {"subspace": "line"},
    "simplex of 3": {"subspace": "simplex", "endpoints": 3},
}
SEEDS = (0, 1)
REPORTED_EPOCHS = 10
"""A line says how far a training is after so many epochs."""


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        networks: by name, architecture, images' side and batch size of what is timed.
        steps: in a timed stretch, of which each candidate has `rounds`.
        rounds: after one that is not kept.
        compared: steps that are compared with the CPU's.
        training: settings of the trainings.
        calibration: images for BatchNorm's statistics.
    """

    networks: dict[str, tuple[str, int, int]]
    steps: int
    rounds: int
    compared: int
    training: dict[str, Any]
    calibration: int


FULL = Size(
    {"cresnet20": ("cresnet20", 32, 128), "ResNet-50": ("benchmarks.resnet50:resnet50", 224, 32)},
    steps=20,
    rounds=5,
    compared=20,
    training={"architecture": "cresnet20", "epochs": 60, "batch_size": 128},
    calibration=2048,
)
TINY = Size(
    {"cresnet8-4": ("cresnet8-4", 8, 8), "ResNet-50": ("benchmarks.resnet50:thin_resnet50", 32, 4)},
    steps=2,
    rounds=1,
    compared=3,
    training={"architecture": "cresnet8-4", "epochs": 2, "batch_size": 64, "train_images": 256},
    calibration=64,
)


@dataclass(frozen=True)
class Report:
    """Where the figures go.

    Attributes:
        file: to which each line is added; None to print only.
        until: the time, by `time.time`, after which nothing new is begun.
    """

    file: Path | None
    until: float

    def line(self, figure: str, **values: Any) -> None:
        """Print a figure as one line of JSON, and add it to the file."""
        text = json.dumps({"figure": figure, **values})
        print(text, flush=True)
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(text + "\n")

    @property
    def is_over(self) -> bool:
        """Whether the time is used up."""
        return time.time() > self.until


def settings(size: Size, data: str, device: str, **changes: Any) -> TrainingConfig:
    """Return the settings of a training, as in the paper."""
    return TrainingConfig(
        **PAPER_METHOD | size.training | {"data": data, "validation": 0.0, "device": device} | changes
    )


def compare(size: Size, data: str, device: str, report: Report) -> None:
    """Report how far a line's first losses on the device are from those on the CPU."""
    config = settings(size, data, "cpu", subspace="line", epochs=1)
    images = prepared_data(config, download=False)
    few = replace(images, train=images.train.subset(np.arange(size.compared * config.batch_size)))
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        (expected,) = InMemory.start(config, few).losses()
        for precision in ("float32", "bfloat16"):
            on_device = settings(size, data, device, subspace="line", epochs=1, precision=precision)
            (found,) = InMemory.start(on_device, few).losses()
            differences = np.abs(np.array(found) / np.array(expected) - 1)
            report.line(
                "agreement", precision=precision, steps=len(found), largest_relative_difference=float(differences.max())
            )
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def random_data(side: int, number: int) -> DataSet:
    """Return a data set of random colour images that vary as CIFAR's do."""
    images = synthetic_images(number, side, side, 3, 10)
    normalisation = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3)
    names, variation = tuple("0123456789"), Augmentation(padding=4, flip=True)
    return DataSet("random", "random", names, normalisation, variation, images, images, images, "", None, 0)


def endless_steps(run: InMemory, steps: int) -> Callable[[], None]:
    """Return a function that takes some training steps and waits for the device."""
    epochs: Iterator = (batch for epoch in count() for batch in run.batches(epoch))
    places, taken = np.random.default_rng(0), StepSettings(0.01)

    def take() -> None:
        for images, labels in islice(epochs, steps):
            run.stepper.step(images, labels, places, taken)
        if run.stepper.device.type == "cuda":
            torch.cuda.synchronize()

    return take


def time_steps(size: Size, device: str, report: Report) -> None:
    """Report steps a second, and what a line's step takes of a standard network's."""
    for name, (architecture, side, batch) in size.networks.items():
        data = random_data(side, 4 * batch)
        for precision in ("float32", "bfloat16"):
            candidates = {
                f"{kind}{'' if graphs else ', no graphs'}": endless_steps(
                    InMemory.start(
                        settings(
                            size,
                            "random",
                            device,
                            architecture=architecture,
                            batch_size=batch,
                            train_images=None,
                            precision=precision,
                            graphs=graphs,
                            **KINDS[kind],
                        ),
                        data,
                    ),
                    size.steps,
                )
                for kind in ("standard", "line")
                for graphs in (True, False)
            }
            seconds = interleaved(candidates, rounds=size.rounds, warm_up=1)
            report.line(
                "speed",
                network=name,
                precision=precision,
                steps_a_second={key: summary([size.steps / each for each in found]) for key, found in seconds.items()},
                line_over_standard=ratio(seconds["line"], seconds["standard"]),
            )


def train_one(size: Size, data: str, device: str, report: Report, kind: str, seed: int) -> None:
    """Train one network or subspace, and report how good it is; where the time is over, how far it came."""
    config = settings(size, data, device, seed=seed, data_seed=seed, **KINDS[kind])
    images = prepared_data(config, download=False)
    started, run = time.perf_counter(), InMemory.start(config, images)
    for epoch, losses in enumerate(run.losses(), start=1):
        facts = {"kind": kind, "seed": seed, "epoch": epoch, "loss": float(np.mean(losses))}
        facts["seconds"] = round(time.perf_counter() - started, 1)
        if epoch < config.epochs and (report.is_over or epoch % REPORTED_EPOCHS == 0):
            report.line("training", **facts)
        if epoch < config.epochs and report.is_over:
            return
    report.line("trained", **facts, test=run.metrics(images.test, size.calibration))
    if kind == "line":
        report.line("export", seed=seed, **export(run, size.calibration))


def export(run: InMemory, calibration: int) -> dict[str, Any]:
    """Export the midpoint, and compare ONNX Runtime's answers on test images with torch's."""
    model = run.collapse(run.config.geometry.midpoint, calibration)
    pixels = next(iter(run.data.test.batches(64)))[0].astype(np.float32).transpose(0, 3, 1, 2) / 255
    images = torch.from_numpy(np.ascontiguousarray(pixels))
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model(images.to(run.stepper.device)).float().cpu().numpy()
        torch.onnx.export(
            model.cpu(),
            (images[:2],),
            buffer,  # type: ignore[arg-type]
            dynamo=False,  # the other exporter needs onnxscript
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}},
        )
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": images.numpy()})
    return {
        "largest_difference": float(np.abs(found - expected).max()),
        "largest_logit": float(np.abs(expected).max()),
        "other_answers": int((found.argmax(1) != expected.argmax(1)).sum()),
    }


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Fashion-MNIST's folder.")
@click.option("--device", help="[default: cuda; of --tiny, cpu]")
@click.option("--minutes", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Stop then.")
@click.option("--workers", type=click.IntRange(1), default=3, show_default=True, help="Trainings that share the GPU.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Add the lines to a file, too.")
@click.option("--tiny", is_flag=True, help="The same code in some seconds, on the digits unless --data is given.")
def main(data: Path | None, device: str | None, minutes: float, workers: int, file: Path | None, tiny: bool) -> None:
    """Check and time training on a GPU; print a JSON line for each figure."""
    if data is None and not tiny:
        raise click.UsageError("give Fashion-MNIST's folder as --data PATH")
    spec = "digits" if data is None else f"fashion-mnist:{data}"
    size, device = TINY if tiny else FULL, device or ("cpu" if tiny else "cuda")
    report = Report(file, time.time() + 60 * minutes)
    name = torch.cuda.get_device_name() if device.startswith("cuda") and torch.cuda.is_available() else device
    report.line("environment", device=name, **environment())
    compare(size, spec, device, report)
    time_steps(size, device, report)
    torch.cuda.empty_cache()  # for the processes that train
    train = partial(train_one, size, spec, device, report)
    trainings = [(kind, seed) for seed in SEEDS for kind in KINDS]
    if workers == 1:
        for kind, seed in trainings:
            train(kind, seed)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(train, kind, seed) for kind, seed in trainings]:
            done.result()


if __name__ == "__main__":
    main()
