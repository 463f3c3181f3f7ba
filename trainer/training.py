"""The training run: data, endpoints, epochs, and what is kept of them."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from subspace_serve.architectures import Architecture, check_output, resolve_architecture
from subspace_serve.calibration_data import draw_calibration_data
from subspace_serve.checkpoint import save_subspace, versions
from subspace_serve.data import DataSet, label_noise, load_data, preprocess
from subspace_serve.devices import choose_device
from subspace_serve.errors import TrainingError
from subspace_serve.metrics import classification_metrics
from subspace_serve.networks import predict_logits, recalibrated
from subspace_serve.subspace import Subspace
from trainer.config import TrainingConfig
from trainer.initialise import initial_endpoints
from trainer.parameters import EndpointMatrix, FlatNetwork, Layout
from trainer.randomness import derived_seed, numpy_generator, torch_generator
from trainer.run_folder import RunFolder
from trainer.schedule import learning_rate
from trainer.step import Stepper

NAN_CHECK_INTERVAL = 20
"""Steps between two looks at the losses: a look makes the host wait for the device."""

Track = Callable[[Iterable, int, str], Iterable]
"""Wraps the batches of an epoch to show progress: (batches, how many, label)."""


def train(
    config: TrainingConfig,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    download: bool = False,
    tensorboard: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda record: None,
    track: Track = lambda batches, length, label: batches,
) -> Subspace:
    """Train a subspace (Algorithm 1), or a standard network, and keep it in a run's folder.

    A run that was interrupted at any moment goes on with `resume`, and on a CPU ends with the same bits as one that
    was not interrupted.

    Args:
        config: the settings.
        out: the run's folder.
        resume: go on with the run in `out`.
        overwrite: replace a run that is already in `out`.
        download: let torchvision download a data set that it knows.
        tensorboard: write TensorBoard's event files too (needs the package tensorboard).
        report: called with each epoch's metrics.
        track: wraps each epoch's batches to show progress.

    Returns:
        The trained subspace, as it was written.

    Raises:
        TrainingError: the settings do not fit, the folder is taken, or the loss stopped being finite; the state after
            the last finished epoch is kept.
        DataError: the data set is missing or bad.
        ArchitectureError: the network is unknown or does not fit the data.
    """
    run = RunFolder(Path(out))
    make_writer = _summary_writer_class() if tensorboard else None
    data = _load(config, download=download)
    architecture = _architecture(config, data)
    stepper = _stepper(config, architecture)
    finished = 0
    if resume:
        finished = run.load_progress(stepper.endpoints)
    else:
        run.create(config, overwrite=overwrite)
    writer = make_writer(str(run.path / "tensorboard")) if make_writer else None
    records = run.read_metrics(finished)
    for epoch in range(finished, config.epochs):
        record = _epoch(config, data, stepper, epoch, run, track)
        if epoch + 1 == config.epochs and len(data.validation):
            record["validation"] = _validate(_subspace(config, data, architecture, stepper, epoch + 1), data, config)
        records.append(record)
        run.write_metrics(records)
        save_subspace(_subspace(config, data, architecture, stepper, epoch + 1), run.path)
        run.save_progress(stepper.endpoints, epoch + 1)
        report(record)
        if writer is not None:
            _write_summary(writer, record)
    return _subspace(config, data, architecture, stepper, config.epochs)


def _load(config: TrainingConfig, *, download: bool) -> DataSet:
    """Load the data set, with label noise on the training images when there is to be some."""
    data = load_data(
        config.data,
        validation=config.validation,
        seed=config.data_seed,
        image_size=config.image_size,
        download=download,
    )
    if not config.label_noise:
        return data
    noisy = label_noise(data.train.labels, config.label_noise, data.classes, config.data_seed)
    return dataclasses.replace(data, train=data.train.with_labels(noisy))


def _architecture(config: TrainingConfig, data: DataSet) -> Architecture:
    height, width, channels = data.shape
    return resolve_architecture(
        config.architecture,
        classes=data.classes,
        channels=channels,
        height=height,
        width=width,
        arguments=config.arguments,
    )


def _stepper(config: TrainingConfig, architecture: Architecture) -> Stepper:
    """Build one network a sample, and the endpoints where they start."""
    device = choose_device(config.device)
    networks = [architecture.build() for _ in range(config.samples)]
    check_output(networks[0], architecture)
    _check_parameters(networks[0])
    layout = Layout.of(networks[0])
    start = initial_endpoints(architecture, config.geometry.endpoints, config.initialisation, config.seed)
    endpoints = EndpointMatrix(layout, start, device, layerwise=config.layerwise)
    return Stepper(config, endpoints, [FlatNetwork(network, layout, device) for network in networks])


def _epoch(
    config: TrainingConfig, data: DataSet, stepper: Stepper, epoch: int, run: RunFolder, track: Track
) -> dict[str, Any]:
    """Train for one epoch; return its metrics."""
    started = time.perf_counter()
    # A last batch of another size would weigh its images more; small sets are one batch.
    drop_last = len(data.train) >= config.batch_size
    batch_size = min(config.batch_size, len(data.train))
    steps = len(data.train) // batch_size if drop_last else 1
    # Dropout and the like draw from torch's global generator.
    torch.manual_seed(derived_seed(config.seed, "network", epoch))
    generator = numpy_generator(config.seed, "alpha", epoch)
    batches = data.train.batches(
        batch_size,
        generator=torch_generator(config.seed, "order", epoch),
        augmentation=data.augmentation,
        drop_last=drop_last,
    )
    device = stepper.device
    losses = torch.zeros(steps, device=device)
    correct = torch.zeros((), device=device)
    for network in stepper.networks:
        network.model.train()
    rate = 0.0
    for step, (images, labels) in enumerate(track(batches, steps, f"epoch {epoch + 1}/{config.epochs}")):
        rate = learning_rate(
            epoch * steps + step,
            peak=config.learning_rate,
            total=config.epochs * steps,
            warmup=round(config.warmup_epochs * steps),
        )
        pixels = preprocess(images, data.preprocessing, device)
        loss, right = stepper.step(pixels, labels.to(device), generator, rate)
        losses[step] = loss
        correct += right
        if step % NAN_CHECK_INTERVAL == NAN_CHECK_INTERVAL - 1 or step == steps - 1:
            _check_finite(losses[: step + 1], epoch, run)
    l2, cosine_squared = stepper.endpoints.distances()
    return {
        "epoch": epoch + 1,
        "loss": losses.mean().item(),
        "accuracy": correct.item() / (steps * batch_size),
        "learning_rate": rate,
        "endpoint_l2": None if math.isnan(l2) else l2,
        "endpoint_cosine_squared": None if math.isnan(cosine_squared) else cosine_squared,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _check_finite(losses: torch.Tensor, epoch: int, run: RunFolder) -> None:
    finite = torch.isfinite(losses)
    if finite.all():
        return
    step = int((~finite).nonzero()[0])
    kept = f"the state after epoch {epoch} is kept in {run.path}" if epoch else "no epoch was finished"
    raise TrainingError(
        f"the loss is {losses[step].item()} at step {step + 1} of epoch {epoch + 1}; {kept}. Train again with a lower "
        "learning rate (--learning-rate), a longer warm-up (--warmup-epochs) or clipping (--clip-gradient)"
    )


def _check_parameters(network: nn.Module) -> None:
    """Refuse networks whose weights are computed from other numbers: a mixture of those is no mixture of weights."""
    if any(parametrize.is_parametrized(module) for module in network.modules()):
        raise TrainingError(
            "the network has parametrised weights (weight or spectral normalisation), which have no place in weight "
            "space; choose an architecture without them"
        )


def _subspace(
    config: TrainingConfig, data: DataSet, architecture: Architecture, stepper: Stepper, epochs: int
) -> Subspace:
    """Return a copy of the endpoints as they are after `epochs` epochs, with where they came from."""
    provenance = {
        "data": {"spec": config.data, "name": data.name, "fingerprint": data.fingerprint},
        "preprocessing": data.preprocessing.to_json(),
        "labels": list(data.label_names),
        "training": config.to_json() | {"finished_epochs": epochs},
        "versions": versions(),
    }
    return Subspace(config.geometry, architecture, tuple(stepper.endpoints.endpoints()), provenance)


def _validate(subspace: Subspace, data: DataSet, config: TrainingConfig) -> dict[str, float]:
    """Return the midpoint's metrics on the validation images."""
    device = choose_device(config.device)
    calibration = draw_calibration_data(data.train, data.preprocessing, name="train", count=2048, device=device)
    model = recalibrated(subspace, subspace.geometry.midpoint, calibration)
    return classification_metrics(
        predict_logits(model, data.validation, data.preprocessing).softmax(1), data.validation.labels
    )


def _summary_writer_class() -> Callable[[str], Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError("TensorBoard's files need the package tensorboard: pip install tensorboard") from error
    return SummaryWriter


def _write_summary(writer: Any, record: dict[str, Any]) -> None:
    for name, value in record.items():
        if isinstance(value, float):
            writer.add_scalar(f"train/{name}", value, record["epoch"])
    writer.flush()


def describe(record: dict[str, Any]) -> str:
    """Return an epoch's metrics as one line."""
    parts = [f"epoch {record['epoch']:>3}", f"loss {record['loss']:.4f}", f"accuracy {100 * record['accuracy']:.2f} %"]
    if record["endpoint_l2"] is not None:
        parts += [f"L2 {record['endpoint_l2']:.2f}", f"cos^2 {record['endpoint_cosine_squared']:.4f}"]
    parts.append(f"{record['seconds']:.1f} s")
    if "validation" in record:
        parts.append(f"validation accuracy {100 * record['validation']['accuracy']:.2f} %")
    return "  ".join(parts)
