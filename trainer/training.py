"""The training run: epochs one after another, and what is kept of each."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from subspace_serve.data import DataSet, Images
from subspace_serve.data.file_check import Track, untracked
from subspace_serve.errors import TrainingError
from subspace_serve.network.network import Network
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.run.metrics import read_metrics
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.checkpoint import FILE_NAME as CHECKPOINT_FILE
from subspace_serve.space.checkpoint import load_subspace, save_subspace
from subspace_serve.space.subspace import Subspace, Weights
from trainer.config import TrainingConfig
from trainer.device_images import DeviceImages, on_device
from trainer.golden import golden_images, leave_golden_answers
from trainer.initialise import initial_kept_state, lasting
from trainer.preparation import prepared_architecture, prepared_stepper, starting_points
from trainer.preprocessing import preprocess
from trainer.progress import Progress
from trainer.proof import proven_skeleton
from trainer.randomness import derived_seed, numpy_generator
from trainer.ranks import Ranks
from trainer.reporting import summary_writer_class, write_summary
from trainer.result import result, validate
from trainer.run_folder import RunFolder, TrainedOn, point_latest_at
from trainer.schedule import Schedule
from trainer.shared import load_shared_progress, shared_data
from trainer.step import Stepper
from trainer.trajectory import Epoch, enter, leave, planned_epochs, starts_remain

NAN_CHECK_INTERVAL = 20
"""Steps between two looks at the losses: a look makes the host wait for the device."""


def train(
    config: TrainingConfig,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    download: bool = False,
    tensorboard: bool = False,
    ranks: Ranks | None = None,
    data: DataSet | None = None,
    announce: Callable[[DataSet, Architecture], None] = lambda data, architecture: None,
    report: Callable[[dict[str, Any]], None] = lambda record: None,
    track: Track = untracked,
) -> Subspace:
    """Train a subspace (Algorithm 1) or a baseline, and keep it in a run's folder.

    A run that was interrupted at any moment goes on with `resume`, and on a CPU ends with the same bits as one that
    was not interrupted.

    Several ranks divide every batch (see `trainer.division`). The first one reads and writes the folder, and reports;
    `resume` goes on with any number of ranks.

    Args:
        config: the settings.
        out: the run's folder.
        resume: go on with the run in `out`.
        overwrite: replace a run that is already in `out`.
        download: fetch a data set that is missing and can be fetched.
        tensorboard: write TensorBoard's event files too (needs the package tensorboard).
        ranks: the processes that train together; this one alone when None.
        data: what `prepared_data` returns for these settings, to spare loading it again; loaded when None.
        announce: called with the data and the network before the first step.
        report: called with each epoch's metrics.
        track: shows progress: wraps the checking of image files, and each epoch's batches.

    Returns:
        The trained subspace, as it was written.

    Raises:
        TrainingError: the settings do not fit, the folder is taken, or the loss stopped being finite; the state after
            the last finished epoch is kept.
        DataError: the data set is missing or bad.
        ArchitectureError: the network is unknown or does not fit the data.
        ExportError: the network could not be deployed (see `trainer.proof`).
        RankError: another rank has other settings, data or versions, or ended.
    """
    ranks = ranks or Ranks()
    run = RunFolder(Path(out))
    make_writer = summary_writer_class() if tensorboard and ranks.is_first else None
    with run.held() if ranks.is_first else contextlib.nullcontext():
        if ranks.is_first and not resume:
            run.check_free(overwrite=overwrite)
        earlier = ranks.broadcast(run.trained_on() if ranks.is_first else None) if resume else None
        data = shared_data(config, ranks, download=download, earlier=earlier, track=track, data=data)
        if not resume:
            config = config.model_copy(update={"initialisation": ranks.broadcast(lasting(config.initialisation))})
        trained_on = TrainedOn(data.shape[0], data.fingerprint)
        architecture = prepared_architecture(config, data)
        skeleton: Skeleton | None = None
        kept: Weights = {}
        start: list[Weights] = []
        # The record of a run that goes on takes the place of its start, which need not be there any more.
        first_start = "shared" if earlier else config.initialisation
        if ranks.is_first:
            announce(data, architecture)
            start = starting_points(config.model_copy(update={"initialisation": first_start}), architecture)
            # Before anything is spent on training: what could not be deployed is refused now.
            kept = _kept_state(config, architecture, run, resume=resume)
            skeleton = proven_skeleton(architecture, kept)
        kept = ranks.broadcast(kept)
        start = ranks.broadcast(start)
        stepper = prepared_stepper(config, architecture, start, ranks, kept=kept)
        endpoints, progress = stepper.endpoints, Progress()
        batch_size, steps = _batching(config, data)
        stepper.check(architecture, batch_size)
        schedule = Schedule(config, steps)
        _check_members(config, schedule)
        if resume:
            progress = load_shared_progress(run, endpoints, ranks)
        elif ranks.is_first:
            run.create(config)
        if config.trajectories == 1 or not starts_remain(config, progress):
            start = []  # copied, or not needed: only an ensemble's later members still have to start
        elif earlier:
            start = ranks.broadcast(starting_points(config, architecture) if ranks.is_first else [])
        if skeleton is not None:
            run.write_skeleton(skeleton)
        writer = make_writer(str(run.path / "tensorboard")) if make_writer else None
        records = read_metrics(run.path, progress.epochs) if ranks.is_first else []
        images = on_device(data.train, data.augmentation, stepper.device)
        plan = planned_epochs(config)
        for epoch in plan[progress.epochs :]:
            enter(epoch, config, endpoints, progress, start)
            record = _train_epoch(epoch, config, data, images, stepper, schedule, progress, run, track)
            leave(epoch, config, endpoints, progress)
            progress.epochs += 1
            if len(data.validation) and (config.early_stopping or progress.epochs == len(plan)):
                # The last epoch's endpoints, and not the best that early stopping has kept.
                last = result(config, data, architecture, kept, endpoints, replace(progress, best=None))
                record["validation"] = ranks.broadcast(
                    validate(last, data, config, stepper.device) if ranks.is_first else {}
                )
            if config.early_stopping:
                progress.note_accuracy(progress.epochs, record["validation"]["accuracy"], endpoints)
            if not ranks.is_first:
                continue
            records.append(record)
            run.write_metrics(records)
            save_subspace(result(config, data, architecture, kept, endpoints, progress), run.path)
            run.save_progress(endpoints, progress, trained_on)
            point_latest_at(run.path)
            report(record)
            if writer is not None:
                write_summary(writer, record)
        found = result(config, data, architecture, kept, endpoints, progress)
        if skeleton is not None:
            network = Network.of(found, skeleton, data.preprocessing, device="cpu")
            leave_golden_answers(run.path, found, network, data.preprocessing, **golden_images(data))
    return found


def _kept_state(config: TrainingConfig, architecture: Architecture, run: RunFolder, *, resume: bool) -> Weights:
    """Return the state that all networks of the run share: what it had when it is resumed."""
    if resume and (run.path / CHECKPOINT_FILE).exists():
        return load_subspace(run.path).buffers
    return initial_kept_state(architecture, config.initialisation, config.seed)


def _batching(config: TrainingConfig, data: DataSet) -> tuple[int, int]:
    """Return the batch size, and how many steps an epoch has.

    A last batch of another size would weigh its images more, so it is left out; small sets are one batch.

    Raises:
        TrainingError: the batch has fewer images than samples.
    """
    batch_size = min(config.batch_size, len(data.train))
    if config.samples > batch_size:
        raise TrainingError(
            f"the {batch_size} training images are one batch, which cannot be split into {config.samples} samples; "
            "give fewer (--samples), or more images"
        )
    return batch_size, len(data.train) // batch_size


def _check_members(config: TrainingConfig, schedule: Schedule) -> None:
    kept = schedule.kept_after()
    if kept and (min(kept) < 0 or len(set(kept)) < len(kept)):
        raise TrainingError(
            f"a run of {schedule.steps} steps is too short for {config.members} members of {config.subspace}; train "
            "for more epochs, in smaller batches, or keep fewer (--endpoints)"
        )


def _train_epoch(
    epoch: Epoch,
    config: TrainingConfig,
    data: DataSet,
    images: Images | DeviceImages,
    stepper: Stepper,
    schedule: Schedule,
    progress: Progress,
    run: RunFolder,
    track: Track,
) -> dict[str, Any]:
    """Train for one epoch; return its metrics."""
    started = time.perf_counter()
    batch_size, steps = _batching(config, data)
    division, ranks = stepper.division, stepper.division.ranks
    # Dropout and the like draw from torch's global generator: on each rank other noise.
    noise = epoch.purpose("network") + (f" of rank {ranks.rank}" if ranks.rank else "")
    torch.manual_seed(derived_seed(config.seed, noise, epoch.index))
    generator = numpy_generator(config.seed, epoch.purpose("alpha"), epoch.index)
    batches = images.batches(
        batch_size,
        generator=numpy_generator(config.seed, epoch.purpose("order"), epoch.index),
        augmentation=data.augmentation,
        drop_last=True,
        part=division.part if ranks.world_size > 1 else None,
    )
    device = stepper.device
    losses = torch.zeros(steps, device=device)
    correct = torch.zeros((), device=device)
    kept_after = set(schedule.kept_after())
    for network in stepper.networks:
        network.model.train()
    number = progress.epochs + 1
    rate = 0.0
    label = f"epoch {number}/{len(planned_epochs(config))}"
    shown = track(batches, steps, label) if ranks.is_first else batches
    looked = 0
    for step, (pixels, labels) in enumerate(shown, start=epoch.index * steps):
        settings = schedule.at(step)
        rate = settings.learning_rate
        normalised = preprocess(pixels, data.preprocessing, device)
        answers = torch.as_tensor(labels, device=device)
        loss, right = stepper.step(normalised, answers, generator, settings, batch_size)
        done = step % steps
        losses[done] = loss
        correct += right
        if step in kept_after:
            progress.keep(stepper.endpoints)
        if done % NAN_CHECK_INTERVAL == NAN_CHECK_INTERVAL - 1 or done == steps - 1:
            ranks.reduce_(losses[looked : done + 1])
            _check_finite(losses[: done + 1], progress.epochs, run)
            looked = done + 1
    ranks.reduce_(correct)
    # Ranks on machines that differ may round differently; all go on with what the first one keeps.
    ranks.broadcast_(stepper.endpoints.values)
    ranks.broadcast_(stepper.endpoints.velocity)
    l2, cosine_squared = stepper.endpoints.distances()
    return {
        "epoch": number,
        **({"member": epoch.member} if config.trajectories > 1 else {}),
        "loss": losses.mean().item(),
        "accuracy": correct.item() / (steps * batch_size),
        "learning_rate": rate,
        "endpoint_l2": None if math.isnan(l2) else l2,
        "endpoint_cosine_squared": None if math.isnan(cosine_squared) else cosine_squared,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _check_finite(losses: torch.Tensor, finished: int, run: RunFolder) -> None:
    finite = torch.isfinite(losses)
    if finite.all():
        return
    step = int((~finite).nonzero()[0])
    kept = f"the state after epoch {finished} is kept in {run.path}" if finished else "no epoch was finished"
    raise TrainingError(
        f"the loss is {losses[step].item()} at step {step + 1} of epoch {finished + 1}; {kept}. Train again with a "
        "lower learning rate (--learning-rate), a longer warm-up (--warmup-epochs) or clipping (--clip-gradient)"
    )
