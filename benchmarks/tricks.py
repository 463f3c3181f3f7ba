"""Tricks of training that the trainer does not have, for the search for a recipe; one that wins moves there.

- Shuffling (WASH, arXiv 2405.17517): after each step a random share of the coordinates, with their momenta, is permuted
  among the endpoints. Their mean, a line's midpoint, stays.
- Pulling (PAPA, arXiv 2304.03094): every few steps the endpoints move a little towards their mean, less as the learning
  rate falls. The mean stays.
- Places: antithetic, alpha and 1 - alpha in one batch; or the middle and one more, with or without the ends.
- Averaging (LAWA, arXiv 2209.14981): each endpoint becomes the mean of what it was after the last epochs.
- Sharpness-aware steps (SAM, arXiv 2010.01412) in the last tenth of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from subspace_serve.space.geometry import Geometry
from trainer.randomness import torch_generator
from trainer.step import Stepper

PULL_EVERY = 10
"""Steps between two pulls, as in the paper."""
SHARP_FROM = 0.9
"""Where in the run sharpness-aware steps begin."""


@dataclass(frozen=True)
class Tricks:
    """What is added to a run; nothing by default.

    Attributes:
        shuffled: share of the coordinates that each step permutes.
        pulled: fraction of the way to the mean, at the peak of the learning rate.
        places: how a line's places are drawn: `uniform`, `antithetic`, `middle` (and one more: two samples) or
            `ends-and-middle` (and one more: four samples).
        averaged: how many last epochs each endpoint is the mean of; 0 for what it is at the end.
        radius: of sharpness-aware steps, in L2; 0 for none.
    """

    shuffled: float = 0.0
    pulled: float = 0.0
    places: str = "uniform"
    averaged: int = 0
    radius: float = 0.0


class Antithetic(Geometry):
    """A line whose places come in pairs, alpha and 1 - alpha."""

    def sample(self, generator: np.random.Generator, size: int) -> np.ndarray:
        drawn = super().sample(generator, -(-size // 2))
        return np.concatenate([drawn, 1 - drawn])[:size]


class Middle(Geometry):
    """A line whose places are always the middle and one at random."""

    fixed: ClassVar[tuple[float, ...]] = (0.5,)

    def sample(self, generator: np.random.Generator, size: int) -> np.ndarray:
        if size != len(self.fixed) + 1:
            raise ValueError(
                f"{len(self.fixed)} fixed places and one more are {len(self.fixed) + 1} samples, not {size}"
            )
        return np.concatenate([self.fixed, super().sample(generator, 1)])


class EndsAndMiddle(Middle):
    """A line whose places are always both ends, the middle and one at random."""

    fixed = (0.0, 1.0, 0.5)


class TrickStepper(Stepper):
    """Takes another stepper's steps with tricks.

    Args:
        stepper: whose endpoints and networks it takes over.
        tricks: what is added.
        steps: how many the run has.
    """

    _PLACES: ClassVar[dict[str, type[Geometry]]] = {
        "uniform": Geometry,
        "antithetic": Antithetic,
        "middle": Middle,
        "ends-and-middle": EndsAndMiddle,
    }

    def __init__(self, stepper: Stepper, tricks: Tricks, steps: int) -> None:
        super().__init__(stepper.config, stepper.endpoints, stepper.networks, stepper.division)
        geometry = self.config.geometry
        self._geometry = self._PLACES[tricks.places](geometry.name, geometry.endpoints)
        self._run = self._pass  # not recorded, since what follows is not the same in every step
        self._tricks = tricks
        self._steps = steps
        self._taken = 0
        self._random = torch_generator(self.config.seed, "shuffling")

    def step(self, *arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
        found = super().step(*arguments, **named)
        self._taken += 1
        if self._tricks.shuffled:
            self._shuffle()
        if self._tricks.pulled and self._taken % PULL_EVERY == 0:
            rate = arguments[3].learning_rate / self.config.learning_rate
            values = self.endpoints.values
            values.lerp_(values.mean(0, keepdim=True).expand_as(values), self._tricks.pulled * rate)
        return found

    def _shuffle(self) -> None:
        values, velocity = self.endpoints.values, self.endpoints.velocity
        count, size = values.shape
        chosen = (torch.rand(size, generator=self._random) < self._tricks.shuffled).nonzero().squeeze(1)
        order = torch.rand(count, len(chosen), generator=self._random).argsort(0).to(self.device)
        chosen = chosen.to(self.device)
        for matrix in (values, velocity):
            matrix[:, chosen] = matrix[:, chosen].gather(0, order)

    def _backward(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        found = super()._backward(*arguments)
        if self._tricks.radius and self._taken >= SHARP_FROM * self._steps:
            # The gradient is taken anew where the loss rises most; the weights are collapsed again for the next step.
            for network in self.networks:
                network.values.add_(self._tricks.radius * network.gradient / (network.gradient.norm() + 1e-12))
                network.gradient.zero_()
            super()._backward(*arguments)
        return found
