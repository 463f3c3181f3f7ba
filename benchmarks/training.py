"""The cost of training a subspace, compared with one network: `python -m benchmarks.training`.

Prints one JSON document. Everything runs on the CPU on random 32x32 colour images; candidates take turns (see
`benchmarks.measure`), so other load on the machine affects all of them alike.

- `step_seconds`: one training step, from drawing and augmenting a batch to the updated weights. `plain_torch` is an
  ordinary channels-last network under `torch.optim.SGD`; `standard`, `line` and the others are the trainer's own step.
- `step_ratios`: each of them against `standard` and against `plain_torch`.
- `epochs`: an epoch of each training method against one of standard training (see `benchmarks.methods`).
- `input_share`: input work (order, gather, augmentation, normalisation) as a share of a standard network's epoch.
- `recalibration_speed`: `recalibrate_batchnorm` against a plain forward pass in train mode without gradients, on the
  same batches.
- `memory`: what training takes beyond a standard network, each in its own process (see `benchmarks.memory`); with
  ResNet-18 on small batches, where weights take more than activations.
- `line_to_reference`, with `--reference PATH`: a line's step against that of the published implementation, imported
  from a clone of https://github.com/apple/learning-subspaces at PATH and run by its own training function. It gets its
  batches from this project's loader, in the contiguous layout that its own loader yields.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import (
    Seconds,
    at_least,
    at_most,
    environment,
    interleaved,
    measurement_options,
    ratio,
    report,
    summary,
    synthetic_images,
    use_threads,
)
from benchmarks.methods import measure_epochs
from subspace_serve.data import Augmentation, MemoryImages, Preprocessing
from subspace_serve.space.architecture import Architecture
from trainer.architectures import build
from trainer.config import TrainingConfig
from trainer.methods import NEUTRAL
from trainer.preparation import prepared_stepper, starting_points
from trainer.preprocessing import preprocess
from trainer.recalibration import recalibrate_batchnorm
from trainer.schedule import StepSettings

SIDE, CHANNELS, CLASSES = 32, 3, 10
AUGMENTATION = Augmentation(padding=4, flip=True)
PREPROCESSING = Preprocessing(mean=(0.5,) * CHANNELS, std=(0.25,) * CHANNELS)
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4
CALIBRATION_BATCHES = 4
WARM_UP = 2

TRAINER_STEPS: dict[str, dict[str, Any]] = {
    "standard": {"subspace": "standard"},
    "line": {"subspace": "line"},
    "curve": {"subspace": "curve"},
    "line_layerwise": {"subspace": "line", "layerwise": True},
    "line_2_samples": {"subspace": "line", "samples": 2},
    "line_4_samples": {"subspace": "line", "samples": 4},
    "simplex_6": {"subspace": "simplex", "endpoints": 6},
    "feature_similarity": {"subspace": "line", "samples": 2, "feature_similarity": 1.0},
    "integral": {"subspace": "integral"},
}
STEP_LIMITS = {"line": 1.03, "simplex_6": 1.08}
INPUT_LIMIT = 0.03
REFERENCE_LIMIT = 0.85
RECALIBRATION_LIMIT = 0.9
MEMORY_LIMIT = 1.05
"""For the bytes of tensors beyond a standard network's, over those of the added endpoints and their momentum."""

Step = Callable[[], object]
Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Workload:
    """The network and the images that every candidate trains."""

    architecture: Architecture
    images: MemoryImages
    batch_size: int

    def epoch(self, generator: np.random.Generator) -> Batches:
        """Yield the augmented, preprocessed batches of one epoch."""
        for pixels, labels in self.images.batches(
            self.batch_size, generator=generator, augmentation=AUGMENTATION, drop_last=True
        ):
            yield preprocess(pixels, PREPROCESSING), torch.from_numpy(labels)

    def batches(self) -> Batches:
        """Yield batches without end."""
        generator = np.random.default_rng(0)
        while True:
            yield from self.epoch(generator)


def trainer_step(workload: Workload, settings: dict[str, Any]) -> Step:
    """Return a function that takes one of the trainer's steps."""
    config = TrainingConfig(
        **NEUTRAL | settings, architecture=workload.architecture.name, batch_size=workload.batch_size, device="cpu"
    )
    stepper = prepared_stepper(config, workload.architecture, starting_points(config, workload.architecture))
    for network in stepper.networks:
        network.model.train()
    batches, generator = workload.batches(), np.random.default_rng(0)
    return lambda: stepper.step(*next(batches), generator, StepSettings(LEARNING_RATE))


def plain_torch_step(workload: Workload) -> Step:
    """Return a function that takes one step in plain torch, as one would write it for one network."""
    model = build(workload.architecture).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    batches = workload.batches()

    def step() -> None:
        images, labels = next(batches)
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def reference_step(workload: Workload, clone: Path) -> Step:
    """Return a function that takes one step of the published implementation's training of a line."""
    depth, _, width = workload.architecture.name.removeprefix("cresnet").partition("-")
    with _importing_from(clone):
        settings = importlib.import_module("args").args
        utils = importlib.import_module("utils")
        reference = importlib.import_module("trainers.train_one_dim_subspaces")
    vars(settings).update(
        model="CIFARResNet",
        model_name=f"cifar_resnet_{depth}_{width or 16}",
        conv_type=sys.intern("LinesConv"),  # it is compared by identity with a literal
        bn_type="LinesBN",
        beta=1.0,
        layerwise=False,
        output_size=CLASSES,
        lr=LEARNING_RATE,
        momentum=MOMENTUM,
        wd=WEIGHT_DECAY,
    )
    models = [utils.set_gpu(utils.get_model())]  # stays on the CPU, since the settings name no GPU
    optimizers = [utils.get_optimizer(settings, model) for model in models]
    loader = SimpleNamespace(train_loader=_OneBatch(workload))
    criterion = nn.CrossEntropyLoss()

    def step() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            reference.train(models, None, loader, optimizers, criterion, 0)

    return step


class _OneBatch:
    """A loader with one batch per epoch, a new one each time, so that the reference's epoch is one step."""

    def __init__(self, workload: Workload) -> None:
        self.dataset = workload.images
        self._batches = workload.batches()

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Batches:
        images, labels = next(self._batches)
        yield images.contiguous(), labels


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Allow imports from `folder` of modules that parse the command line on import and emit deprecation warnings."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    sys.path.insert(0, str(folder.resolve()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.argv = arguments
        sys.path.remove(str(folder.resolve()))


def recalibration(workload: Workload) -> dict[str, Step]:
    """Return the two candidates of recalibration: itself, and a plain forward pass over the same batches."""
    batches = [images for images, _ in islice(workload.batches(), CALIBRATION_BATCHES)]
    recalibrated, plain = (
        build(workload.architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for _ in range(2)
    )
    recalibrated.eval()
    plain.train()

    @torch.no_grad()
    def forward() -> None:
        for batch in batches:
            plain(batch)

    return {"recalibration": lambda: recalibrate_batchnorm(recalibrated, batches), "plain_forward": forward}


def measure_speed(workload: Workload, rounds: int, reference: Path | None) -> dict[str, Any]:
    """Time everything in one interleaved run; return the figures described above."""
    steps = {"plain_torch": plain_torch_step(workload)}
    steps |= {name: trainer_step(workload, settings) for name, settings in TRAINER_STEPS.items()}
    if reference:
        steps["reference_line"] = reference_step(workload, reference)
    generator = np.random.default_rng(0)
    candidates = {
        **steps,
        "input_epoch": lambda: deque(workload.epoch(generator), maxlen=0),
        **recalibration(workload),
    }
    seconds = interleaved(candidates, rounds=rounds, warm_up=WARM_UP)
    steps_an_epoch = len(workload.images) // workload.batch_size
    epoch = [steps_an_epoch * step for step in seconds["standard"]]
    document = {
        "step_seconds": {name: summary(seconds[name]) for name in steps},
        "step_ratios": {name: _against_one_network(seconds, name) for name in TRAINER_STEPS},
        "input_share": at_most(INPUT_LIMIT, ratio(seconds["input_epoch"], epoch)),
        "recalibration_speed": at_least(RECALIBRATION_LIMIT, ratio(seconds["plain_forward"], seconds["recalibration"])),
    }
    if reference:
        document["line_to_reference"] = at_most(REFERENCE_LIMIT, ratio(seconds["line"], seconds["reference_line"]))
    return document


def _against_one_network(seconds: Seconds, name: str) -> dict[str, Any]:
    figures = {f"to_{base}": ratio(seconds[name], seconds[base]) for base in ("standard", "plain_torch")}
    if name not in STEP_LIMITS:
        return figures
    return {key: at_most(STEP_LIMITS[name], figure) for key, figure in figures.items()}


def measure_memory(architecture: str) -> dict[str, Any]:
    """Train a standard network, a line and a simplex of six, each in its own process; return what each takes."""
    parameters = sum(p.numel() for p in build(Architecture(architecture, CLASSES, CHANNELS, SIDE, SIDE)).parameters())
    document: dict[str, Any] = {"architecture": architecture, "parameters": parameters}
    for name, endpoints in (("standard", 1), ("line", 2), ("simplex_6", 6)):
        settings = {"architecture": architecture} | TRAINER_STEPS[name]
        options = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "benchmarks.memory", *options]
        click.echo(f"memory: {name}", err=True)
        run = subprocess.run(command, cwd=Path(__file__).parent.parent, check=True, stdout=subprocess.PIPE, text=True)
        figures = json.loads(run.stdout)
        document[name] = figures
        if endpoints == 1:
            continue
        expected = (endpoints - 1) * 2 * 4 * parameters
        over = {key: figures[key] - document["standard"][key] for key in ("tensor_bytes", "resident_bytes")}
        document[name] = figures | {
            "endpoints_and_momentum_over_standard": expected,
            "tensor_bytes_over_standard": over["tensor_bytes"],
            "resident_bytes_over_standard": over["resident_bytes"],
            "tensors_to_expected": at_most(MEMORY_LIMIT, {"median": round(over["tensor_bytes"] / expected, 4)}),
            "resident_to_expected": round(over["resident_bytes"] / expected, 4),
        }
    return document


@click.command()
@measurement_options
@click.option("--architecture", default="cresnet20", show_default=True, help="A cresnet, for the reference's sake.")
@click.option("--batch-size", type=click.IntRange(4), default=128, show_default=True)
@click.option("--images", "image_count", type=click.IntRange(4), default=12_800, show_default=True, help="An epoch's.")
@click.option("--epochs/--no-epochs", default=True, help="Also train whole epochs with every method.")
@click.option("--epoch-architecture", default="cresnet8", show_default=True)
@click.option("--epoch-images", type=click.IntRange(4), default=2_560, show_default=True)
@click.option("--epoch-rounds", type=click.IntRange(1), help="[default: as many as the others]")
@click.option("--memory/--no-memory", default=True, help="Also measure memory, which takes three more processes.")
@click.option("--memory-architecture", default="resnet18", show_default=True)
@click.option(
    "--reference",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A clone of the published implementation (apple/learning-subspaces).",
)
def main(
    rounds: int,
    threads: int,
    json_file: str | None,
    architecture: str,
    batch_size: int,
    image_count: int,
    epochs: bool,
    epoch_architecture: str,
    epoch_images: int,
    epoch_rounds: int | None,
    memory: bool,
    memory_architecture: str,
    reference: Path | None,
) -> None:
    """Measure the cost of training a subspace, compared with one network; print JSON."""
    if reference and not (reference / "trainers" / "train_one_dim_subspaces.py").is_file():
        raise click.BadParameter(f"{reference} is not a clone of apple/learning-subspaces", param_hint="--reference")
    use_threads(threads)
    torch.manual_seed(0)
    workload = Workload(
        Architecture(architecture, CLASSES, CHANNELS, SIDE, SIDE),
        synthetic_images(image_count, SIDE, SIDE, CHANNELS, CLASSES),
        batch_size,
    )
    document = {
        "benchmark": "training",
        **environment(),
        "settings": {"architecture": architecture, "batch_size": batch_size, "images": image_count, "rounds": rounds},
        **measure_speed(workload, rounds, reference),
    }
    if epochs:
        document["epochs"] = measure_epochs(epoch_architecture, epoch_images, batch_size, epoch_rounds or rounds)
    if memory:
        document["memory"] = measure_memory(memory_architecture)
    report(document, json_file)


if __name__ == "__main__":
    main()
