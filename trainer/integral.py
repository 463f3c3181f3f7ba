"""Networks whose average over a whole line is a single network (appendix C, equations 14 to 17).

With f(x, P(a)) = g(x, P(0)) + dg(x, P(a))/da, the average of f over the line is g(x, P(1)). Training replaces the
derivative by a finite difference, so each step runs three networks: g at 0, at a and at a + epsilon.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainer.division import Division
from trainer.schedule import StepSettings
from trainer.step import Stepper

NETWORKS = 3
"""How many networks a step runs."""


class IntegralStepper(Stepper):
    """Takes training steps on the two ends of a line, with three networks.

    Args:
        config: the run's settings.
        endpoints: what is trained, a line.
        networks: three; their weights are overwritten in every step.
        division: how every batch is divided among ranks; None gives all of it to this process.
    """

    @staticmethod
    def network_count(division: Division) -> int:
        return NETWORKS

    def step(
        self,
        images: Tensor,
        labels: Tensor,
        generator: np.random.Generator,
        settings: StepSettings,
        whole: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Train f(x, P(alpha)) on one batch (equation 17); arguments and result are those of `Stepper.step`."""
        if not self.endpoints.layout.channels_last:
            images = images.clone(memory_format=torch.contiguous_format)
        alpha, epsilon = generator.random(), self.config.epsilon
        # Near a = 1 the difference reaches a little beyond the line.
        coefficients = [self._line(place) for place in (0.0, alpha, alpha + epsilon)]
        outputs = []
        for network, forward, c in zip(self.networks, self._forward, coefficients, strict=True):
            self.endpoints.collapse_into(network, c)
            network.gradient.zero_()
            with self._autocast():
                outputs.append(forward(images))
        start, here, further = outputs
        logits = start + (further - here) / epsilon
        loss = self._loss(logits, labels) * self.division.weight(whole or len(images))
        loss.backward()
        self.endpoints.update(
            self._exchanged(coefficients),
            pair=(0, 1),
            beta=settings.beta,
            learning_rate=settings.learning_rate,
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
        )
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def _line(self, place: float) -> Tensor:
        return torch.tensor([[1 - place], [place]], dtype=torch.float32, device=self.device)
