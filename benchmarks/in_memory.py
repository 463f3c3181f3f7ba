"""Runs in memory: the trainer's own steps and schedule, without what a run leaves on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subspace_serve.answers import softmax
from subspace_serve.data import DataSet, Images
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.space.place import Alpha
from trainer.config import TrainingConfig
from trainer.device_images import DeviceImages, on_device
from trainer.preparation import prepared_architecture, prepared_stepper, starting_points
from trainer.preprocessing import preprocess
from trainer.randomness import derived_seed, numpy_generator
from trainer.recalibration import recalibrate_batchnorm
from trainer.schedule import Schedule
from trainer.step import Stepper

BLOCK = 256
"""Images in a batch of calibration or measurement."""


@dataclass
class InMemory:
    """A run that is being trained.

    Attributes:
        config: its settings.
        data: what it is trained and measured on.
        stepper: takes its steps.
        images: the training images, on the device where there is room.
    """

    config: TrainingConfig
    data: DataSet
    stepper: Stepper
    images: Images | DeviceImages

    @classmethod
    def start(
        cls, config: TrainingConfig, data: DataSet, adapted: Callable[[Stepper], Stepper] = lambda s: s
    ) -> InMemory:
        """Return a run at its beginning; `adapted` may put another stepper in place of the method's own."""
        architecture = prepared_architecture(config, data)
        stepper = adapted(prepared_stepper(config, architecture, starting_points(config, architecture)))
        return cls(config, data, stepper, on_device(data.train, data.augmentation, stepper.device))

    @property
    def steps(self) -> int:
        """How many steps an epoch has."""
        return len(self.data.train) // self.config.batch_size

    def losses(self) -> Iterator[list[float]]:
        """Train epoch by epoch; yield the losses of each epoch's steps.

        With the draws of `trainer.training`, so that the weights are those of a run of these settings.
        """
        schedule, seed = Schedule(self.config, self.steps), self.config.seed
        for epoch in range(self.config.epochs):
            torch.manual_seed(derived_seed(seed, "network", epoch))
            for network in self.stepper.networks:
                network.model.train()
            places = numpy_generator(seed, "alpha", epoch)
            found = []
            for step, (images, labels) in enumerate(self.batches(epoch), start=epoch * self.steps):
                loss, _ = self.stepper.step(images, labels, places, schedule.at(step))
                found.append(loss)
            yield torch.stack(found).tolist()

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch, normalised, with their labels."""
        for pixels, labels in self.images.batches(
            self.config.batch_size,
            generator=numpy_generator(self.config.seed, "order", epoch),
            augmentation=self.data.augmentation,
            drop_last=True,
        ):
            device = self.stepper.device
            yield preprocess(pixels, self.data.preprocessing, device), torch.as_tensor(labels, device=device)

    def collapse(self, alpha: Alpha, calibration: int) -> torch.nn.Module:
        """Return the network at a place, recalibrated on training images; it is a step's own, and used by the next."""
        network = self.stepper.networks[0]
        coefficients = self.config.geometry.coefficients(alpha).astype(np.float32)
        each = torch.from_numpy(coefficients).to(self.stepper.device)[:, None].expand(-1, self.stepper.layers)
        self.stepper.endpoints.collapse_into(network, each)
        chosen = numpy_generator(self.config.data_seed, "calibration").permutation(len(self.data.train))[:calibration]
        recalibrate_batchnorm(network.model, (images for images, _ in self._blocks(self.data.train.subset(chosen))))
        return network.model.eval()

    @torch.no_grad()
    def probabilities(self, alpha: Alpha, images: Images, calibration: int) -> np.ndarray:
        """Return what the network at a place answers, shape (N, classes)."""
        model = self.collapse(alpha, calibration)
        return softmax(torch.cat([model(pixels).float() for pixels, _ in self._blocks(images)]).cpu().numpy())

    def metrics(self, images: Images, calibration: int) -> dict[str, dict[str, Any]]:
        """Return accuracy and the like of the midpoint and, of a subspace, of the ends together."""
        geometry = self.config.geometry
        found = {"midpoint": self.probabilities(geometry.midpoint, images, calibration)}
        if geometry.endpoints > 1:
            found["ends"] = np.mean([self.probabilities(end, images, calibration) for end in geometry.ends], axis=0)
        return {name: classification_metrics(answers, images.labels) for name, answers in found.items()}

    def _blocks(self, images: Images) -> Iterator[tuple[Tensor, np.ndarray]]:
        for pixels, labels in images.batches(BLOCK):
            prepared = preprocess(pixels, self.data.preprocessing, self.stepper.device)
            if not self.stepper.endpoints.layout.channels_last:
                prepared = prepared.clone(memory_format=torch.contiguous_format)
            yield prepared, labels
