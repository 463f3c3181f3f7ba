"""How far a run has come: what is needed, besides the endpoints, to go on with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainer.parameters import EndpointMatrix


@dataclass(frozen=True)
class Best:
    """The endpoints as they were after the epoch that was most accurate on the validation images.

    Attributes:
        epoch: which epoch, from 1.
        accuracy: the midpoint's on the validation images, as a fraction.
        values: the endpoints, shape (m, n).
    """

    epoch: int
    accuracy: float
    values: Tensor


@dataclass
class Progress:
    """What a run has done.

    Attributes:
        epochs: finished epochs of the run's plan.
        members: kept networks, each of shape (n,).
        parting: values and velocity where the trajectories of an ensemble part, shape (2, 1, n).
        best: the best epoch so far; None without early stopping.
    """

    epochs: int = 0
    members: list[Tensor] = field(default_factory=list)
    parting: Tensor | None = None
    best: Best | None = None

    def keep(self, endpoints: EndpointMatrix) -> None:
        """Keep the network that is being trained as a member."""
        self.members.append(endpoints.values[0].clone())

    def note_accuracy(self, epoch: int, accuracy: float, endpoints: EndpointMatrix) -> None:
        """Keep the endpoints if the midpoint is more accurate than after every earlier epoch (ties keep the first)."""
        if self.best is None or accuracy > self.best.accuracy:
            self.best = Best(epoch, accuracy, endpoints.values.clone())

    def state(self) -> dict[str, Any]:
        """Return everything as tensors and numbers, on the CPU."""
        return {
            "epochs": self.epochs,
            "members": torch.stack(self.members).cpu() if self.members else None,
            "parting": None if self.parting is None else self.parting.cpu(),
            "best": None
            if self.best is None
            else {"epoch": self.best.epoch, "accuracy": self.best.accuracy, "values": self.best.values.cpu()},
        }

    @staticmethod
    def from_state(state: dict[str, Any], device: torch.device) -> Progress:
        """Return what `state` recorded, on a device."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        members, best = moved(state["members"]), state["best"]
        return Progress(
            epochs=int(state["epochs"]),
            members=[] if members is None else list(members.unbind()),
            parting=moved(state["parting"]),
            best=None if best is None else Best(best["epoch"], best["accuracy"], best["values"].to(device)),
        )
