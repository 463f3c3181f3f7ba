"""What a run needs before its first step: data, a network, and endpoints where they start."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from subspace_serve.data import DataSet, Preprocessing, label_noise, load_checked
from subspace_serve.data.drawing import carve
from subspace_serve.data.file_check import Track, untracked
from subspace_serve.errors import TrainingError
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.subspace import Weights
from trainer.architectures import build, find_builder
from trainer.architectures.records import record_of
from trainer.config import TrainingConfig
from trainer.division import Division
from trainer.initialise import initial_endpoints, normalisation_of_start
from trainer.memory_order import channels_last_is_safe
from trainer.parameters import EndpointMatrix, FlatNetwork, Layout
from trainer.ranks import Ranks
from trainer.state import check_coordinates, load_kept
from trainer.step import Stepper


def prepared_data(
    config: TrainingConfig, *, download: bool, decoded_size: int | None = None, track: Track = untracked
) -> DataSet:
    """Load the data set; keep so many training images as are wanted, and replace labels when there is to be noise.

    Args:
        config: the run's settings.
        download: fetch a data set that is missing and can be fetched.
        decoded_size: side to which an earlier start of the run brought its image files.
        track: shows the progress of checking image files.

    Raises:
        DataError: the data set is missing or bad, or files of it cannot be read and are not to be skipped.
        TrainingError: it has fewer training images than are wanted, or no validation images for early stopping.
    """
    data = load_checked(
        config.data,
        validation=config.validation,
        seed=config.data_seed,
        image_size=config.image_size,
        channels=config.channels,
        decoded_size=decoded_size,
        skip_unreadable=config.skip_unreadable,
        download=download,
        track=track,
    )
    if config.early_stopping and len(data.validation) == 0:
        raise TrainingError("early stopping needs validation images and there are none; give --validation above 0")
    train = data.train
    if config.train_images is not None and config.train_images < len(train):
        train = train.subset(carve(train.labels, config.train_images, config.data_seed)[1])
    elif config.train_images is not None and config.train_images > len(train):
        raise TrainingError(f"{config.data} has {len(train)} training images; {config.train_images} are wanted")
    if config.train_images is not None and len(train) != config.train_images:
        # Carving takes at least one image of each class, and never its last.
        raise TrainingError(
            f"{config.train_images} training images cannot be drawn class by class from {config.data}: it comes to "
            f"{len(train)}; give --train-images {len(train)}"
        )
    if config.label_noise:
        train = train.with_labels(label_noise(train.labels, config.label_noise, data.classes, config.data_seed))
    return dataclasses.replace(data, train=train, preprocessing=_normalisation(config, data))


def _normalisation(config: TrainingConfig, data: DataSet) -> Preprocessing:
    """Return the normalisation that a run is to have.

    Raises:
        TrainingError: it is to be another's, which is not known or has other channels.
    """
    if config.normalisation == "data":
        return data.preprocessing
    if config.normalisation == "start":
        found = normalisation_of_start(config.initialisation)
        unknown = f"{config.initialisation} is no run, which would record its own; give a run's folder with --init"
    else:
        record = record_of(config.architecture)
        found = None if record is None else record.preprocessing
        unknown = f"none is recorded for {config.architecture}"
    if found is None:
        raise TrainingError(f"the normalisation is to be that of the {config.normalisation}, and {unknown}")
    if len(found.mean) != data.shape[2]:
        raise TrainingError(
            f"the normalisation of the {config.normalisation} has {len(found.mean)} channels and the images have "
            f"{data.shape[2]}; give images of as many channels (grey ones are repeated with --channels 3)"
        )
    return found


def prepared_architecture(config: TrainingConfig, data: DataSet) -> Architecture:
    """Return what builds the run's network for its data.

    Raises:
        ArchitectureError: nothing builds a network of this name.
    """
    find_builder(config.architecture)
    height, width, channels = data.shape
    return Architecture(config.architecture, data.classes, channels, height, width, dict(config.arguments))


def starting_points(config: TrainingConfig, architecture: Architecture) -> list[Weights]:
    """Return where each endpoint, or each member of an ensemble, starts."""
    count = config.trajectories * config.geometry.endpoints
    # What shares a trajectory starts as one.
    how = "shared" if config.shared_epochs and config.initialisation == "independent" else config.initialisation
    return initial_endpoints(architecture, count, how, config.seed)


def prepared_stepper(
    config: TrainingConfig,
    architecture: Architecture,
    start: Sequence[Weights],
    ranks: Ranks | None = None,
    *,
    kept: Weights | None = None,
) -> Stepper:
    """Build the networks of a step, and the endpoints where they start; of several ranks, this one's networks.

    Raises:
        TrainingError: the network's weights are no coordinates in weight space, or a batch's samples cannot be divided
            among the ranks.
        ArchitectureError: it does not fit its input.
    """
    ranks = ranks or Ranks()
    device = ranks.device(config.device)
    division = Division(config.samples, ranks)
    if config.feature_similarity and len(division.groups) < 2:
        raise TrainingError(
            f"feature_similarity compares samples on one rank: with {ranks.world_size} ranks it needs --samples "
            f"{2 * ranks.world_size} or a multiple, not {config.samples}"
        )
    make_stepper = config.method.stepper()
    count = make_stepper.network_count(division)
    networks = [load_kept(build(architecture), kept or {}) for _ in range(count)]
    check_coordinates(networks[0])
    # Whatever the device, so that a run can be resumed on another.
    layout = Layout.of(networks[0], channels_last=channels_last_is_safe(networks[0], architecture))
    endpoints = EndpointMatrix(layout, start[: config.geometry.endpoints], device, layerwise=config.layerwise)
    flat = [FlatNetwork(network, layout, device) for network in networks]
    return make_stepper(config, endpoints, flat, division)
