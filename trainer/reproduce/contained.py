"""Runs that are part of others, weight for weight: what one training goes through is not trained again.

The first member of an ensemble draws what a standard network draws (`trainer.trajectory`), early stopping only chooses
among the epochs of a training that goes on to its end, and SWA at a constant rate takes the same steps however many of
its networks it keeps.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from subspace_serve.data import DataSet
from subspace_serve.run.metrics import read_metrics
from subspace_serve.space.checkpoint import load_subspace, save_subspace
from trainer.config import TrainingConfig
from trainer.preparation import prepared_architecture, prepared_stepper, starting_points
from trainer.progress import Progress
from trainer.result import result
from trainer.run_folder import RunFolder
from trainer.trajectory import planned_epochs


def contains(whole: TrainingConfig, part: TrainingConfig) -> bool:
    """Return whether training `whole` goes through all that training `part` gives."""
    ours, theirs = whole.to_json(), part.to_json()
    different = {name for name in ours if ours[name] != theirs[name]}
    if whole.early_stopping:
        return different == {"early_stopping"}
    if whole.subspace == "swa" and whole.tail_schedule == "constant":
        # With an epoch for each member the tail's length does not depend on how many there are.
        long_enough = whole.members <= whole.tail * whole.epochs
        return different == {"endpoints"} and whole.members % part.members == 0 and long_enough
    fewer = part.subspace == "standard" or (part.subspace == "ensemble" and part.members < whole.members)
    return whole.subspace == "ensemble" and fewer and different <= {"subspace", "endpoints"}


def shortest_whole(part: TrainingConfig, runs: Iterable[TrainingConfig]) -> TrainingConfig | None:
    """Return the one of the runs that contains `part` and has the fewest epochs; None if there is none."""
    return min((run for run in runs if contains(run, part)), key=lambda run: len(planned_epochs(run)), default=None)


def take_part(part: TrainingConfig, data: DataSet, whole: Path, folder: Path) -> None:
    """Write the subspace and the metrics of the run `part` as they are found in the finished run that contains it.

    Args:
        part: the settings.
        data: that both are trained on.
        whole: folder of the run that contains it.
        folder: of the run to be written; what is in it is removed.

    Raises:
        TrainingError, CheckpointError: the run in `whole` cannot be read.
    """
    architecture = prepared_architecture(part, data)
    endpoints = prepared_stepper(part, architecture, starting_points(part, architecture)).endpoints
    reached = RunFolder(whole).load_progress(endpoints)
    epochs = len(planned_epochs(part))
    members, metrics = reached.members, read_metrics(whole, epochs)
    if part.subspace == "swa":
        between = len(members) // part.members
        members = members[between - 1 :: between]
        for record in metrics:  # that of the mean of other members
            record.pop("validation", None)
    elif members:
        endpoints.values.copy_(torch.stack(members[:1]))
    progress = Progress(epochs, members[: part.members])
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run.create(part)
    run.write_metrics(metrics)
    save_subspace(result(part, data, architecture, load_subspace(whole).buffers, endpoints, progress), folder)
