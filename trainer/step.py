"""One training step: Algorithm 1, with the layerwise and several-samples variants (section 3, appendix B)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from subspace_serve.space.architecture import Architecture
from subspace_serve.space.geometry import Geometry
from trainer.architectures import check_training, penultimate
from trainer.config import TrainingConfig
from trainer.division import Division
from trainer.parameters import EndpointMatrix, FlatNetwork
from trainer.replay import Replayed
from trainer.schedule import StepSettings


@dataclass(frozen=True)
class Draw:
    """The places that a step draws.

    Attributes:
        alphas: one place per sample and layer (one layer unless layerwise), shape (samples, layers, 1), or
            (samples, layers, m) for a simplex.
        coefficients: one (m, layers) tensor for each sample's network.
        pair: endpoints whose cosine is penalised; None when there is only one endpoint.
    """

    alphas: np.ndarray
    coefficients: list[Tensor]
    pair: tuple[int, int] | None


def draw(
    geometry: Geometry,
    generator: np.random.Generator,
    *,
    samples: int,
    layers: int,
    device: torch.device,
    spread: float = 1.0,
) -> Draw:
    """Draw alpha uniformly from the domain for each sample (and layer), and a random pair of endpoints.

    With a `spread` below 1 the places are drawn from the domain shrunk towards the midpoint by that factor.
    """
    alphas = geometry.sample(generator, samples * layers)
    if spread < 1:
        middle = np.asarray(geometry.midpoint)
        alphas = middle + spread * (alphas - middle)
    coefficients = geometry.coefficients_of(alphas).reshape(samples, layers, geometry.endpoints)
    on_device = torch.from_numpy(coefficients.astype(np.float32)).to(device, non_blocking=True)
    pair = None
    if geometry.endpoints > 1:
        first, second = generator.choice(geometry.endpoints, size=2, replace=False)
        pair = (int(first), int(second))
    return Draw(alphas.reshape(samples, layers, -1), [sample.t() for sample in on_device], pair)


def _first_only(coefficients: Tensor) -> Tensor:
    """Return the coefficients of endpoint 0."""
    first = torch.zeros_like(coefficients)
    first[0] = 1
    return first


class _Similar(NamedTuple):
    """Two of a rank's networks whose features are compared, and how far apart their places are."""

    first: int
    second: int
    distance: float


class Stepper:
    """Takes training steps on a matrix of endpoints, with one network per sample.

    Args:
        config: the run's settings.
        endpoints: what is trained.
        networks: one for each sample that this rank has images of; their weights are overwritten in every step.
        division: how every batch is divided among ranks; None gives all of it to this process.
    """

    def __init__(
        self,
        config: TrainingConfig,
        endpoints: EndpointMatrix,
        networks: list[FlatNetwork],
        division: Division | None = None,
    ) -> None:
        self.config = config
        self.division = division or Division(config.samples)
        if len(networks) != (count := self.network_count(self.division)):
            raise ValueError(f"a step goes through {count} networks, not {len(networks)}")
        self._geometry = config.geometry
        self.endpoints = endpoints
        self.networks = networks
        # The midpoint moves by the sum of c_i(midpoint) c_i(alpha) times the gradient. This scale makes that the whole
        # gradient: on a line or a simplex everywhere, on a curve at the midpoint.
        middle = self._geometry.coefficients(self._geometry.midpoint)
        self._gradient_scale = float(1 / np.square(middle).sum()) if config.scaled_gradients else 1.0
        self.layers = endpoints.layout.layer_count if config.layerwise else 1
        self.device = endpoints.values.device
        forward = [network.model for network in networks]
        self._forward: list[Any] = [torch.compile(model) for model in forward] if config.compile else forward
        self._loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        # Feature similarity compares another pair in every step, and torch.compile launches in its own way.
        replays = config.graphs and self.device.type == "cuda" and not config.feature_similarity and not config.compile
        self._run: Callable[..., tuple[Tensor, ...]] = Replayed(self._pass) if replays else self._pass
        self._features: dict[int, Tensor] = {}
        if config.feature_similarity:
            for index, network in enumerate(networks):
                penultimate(network.model).register_forward_pre_hook(self._keep_features(index))

    @staticmethod
    def network_count(division: Division) -> int:
        """Return how many networks a step runs on this rank."""
        return len(division.groups)

    def check(self, architecture: Architecture, batch_size: int) -> None:
        """Check that the network can be trained on the smallest group that this rank will have of a batch.

        Raises:
            TrainingError: this rank would get no images.
            ArchitectureError: as `check_training`.
        """
        part = self.division.part(batch_size)
        network, endpoints = self.networks[0], len(self.endpoints.values)
        # Any weights do; until the first step it has none.
        self.endpoints.collapse_into(network, _first_only(torch.zeros(endpoints, self.layers, device=self.device)))
        with self._autocast():
            check_training(network.model, architecture, (part.stop - part.start) // len(self.division.groups))
        self._features.clear()

    def step(
        self,
        images: Tensor,
        labels: Tensor,
        generator: np.random.Generator,
        settings: StepSettings,
        whole: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Train on one batch; every rank passes its own part of it.

        Args:
            images: this rank's, preprocessed, shape (N, C, H, W).
            labels: shape (N,).
            generator: draws alpha and the pair of endpoints; the same state on every rank.
            settings: learning rate and the like for this step.
            whole: how many images the whole batch has; N when None.

        Returns:
            The classification loss and the number of correct answers of the sampled networks, both 0-dimensional on
            the images' device. With several ranks, the batch's loss and number are the sums over ranks.
        """
        if not self.endpoints.layout.channels_last:
            # A copy: images of one channel are in both orders at once, and torch would take them as channels-last.
            images = images.clone(memory_format=torch.contiguous_format)
        drawn = draw(
            self._geometry,
            generator,
            samples=self.config.samples,
            layers=self.layers,
            device=self.device,
            spread=settings.spread,
        )
        own = [drawn.coefficients[group] for group in self.division.groups]
        loss, correct = self._run(
            images,
            labels,
            *(map(_first_only, own) if settings.together else own),
            weight=self.division.weight(whole or len(images)),
            similar=self._similar(drawn.alphas, generator) if self.config.feature_similarity else None,
        )
        self.endpoints.update(
            self._exchanged([self._shares(coefficients, settings) for coefficients in drawn.coefficients]),
            pair=None if settings.together else drawn.pair,
            beta=settings.beta,
            learning_rate=settings.learning_rate,
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
        )
        return loss, correct

    def _exchanged(self, shares: list[Tensor]) -> list[tuple[Tensor, Tensor]] | Tensor:
        """Return the gradients of all groups, from all ranks, in one of the two forms `EndpointMatrix.update` takes."""
        own = [network.gradient for network in self.networks]
        if not self.division.sums_endpoints(len(self.endpoints.values)):
            gradients = self.division.all_gradients(own)
            self._clip(gradients)
            return list(zip(shares, gradients, strict=True))
        self._clip(own)
        groups = self.division.groups
        summed = self.endpoints.spread(list(zip(shares[groups.start : groups.stop], own, strict=True)))
        self.division.ranks.reduce_(summed)
        return summed

    def _shares(self, coefficients: Tensor, settings: StepSettings) -> Tensor:
        """Return the share of the network's gradient that each endpoint takes: dP/d omega_i = c_i (equation 3).

        With scaled gradients it is c_i times a constant. Endpoints that have not parted are one network, so each takes
        the whole.
        """
        return torch.ones_like(coefficients) if settings.together else coefficients * self._gradient_scale

    def _pass(
        self, images: Tensor, labels: Tensor, *coefficients: Tensor, weight: float, similar: _Similar | None
    ) -> tuple[Tensor, Tensor]:
        """Run each sample's network forward and backward; return the loss and the number of correct answers.

        Args:
            images: this rank's, shape (N, C, H, W).
            labels: shape (N,).
            coefficients: of each network, shape (m, 1) or (m, layers).
            weight: of the losses.
            similar: which networks' features are compared; None for none.
        """
        for network, c in zip(self.networks, coefficients, strict=True):
            self.endpoints.collapse_into(network, c)
            network.gradient.zero_()
        return self._backward(images, labels, weight, similar)

    def _backward(
        self, images: Tensor, labels: Tensor, weight: float, similar: _Similar | None
    ) -> tuple[Tensor, Tensor]:
        """Add each sample's weighted gradient to its network's; return the loss and the number of correct answers."""
        losses, correct = [], []
        groups = zip(images.tensor_split(len(self.networks)), labels.tensor_split(len(self.networks)), strict=True)
        for forward, (group, answers) in zip(self._forward, groups, strict=True):
            with self._autocast():
                logits = forward(group)
                loss = self._loss(logits, answers) / self.config.samples * weight
            if similar is None:
                loss.backward()  # now, so that only one group's activations are alive
            losses.append(loss)
            correct.append((logits.detach().argmax(1) == answers).sum())
        if similar is not None:
            (torch.stack(losses).sum() + self._feature_similarity(similar)).backward()
        return torch.stack(losses).detach().sum(), torch.stack(correct).sum()

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.config.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def _keep_features(self, index: int):
        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._features[index] = inputs[0]

        return keep

    def _similar(self, alphas: np.ndarray, generator: np.random.Generator) -> _Similar:
        """Draw which two of this rank's networks are compared, and measure how far apart their places are.

        For a simplex, where alpha is a vector, |alpha_j - alpha_k| is half the L1 distance (on two endpoints that
        equals the distance on a line). It is averaged over layers.
        """
        j, k = generator.choice(len(self.networks), size=2, replace=False)
        first = self.division.groups.start
        difference = np.abs(alphas[first + j] - alphas[first + k])
        distance = float(difference.mean() if difference.shape[-1] == 1 else 0.5 * difference.sum(-1).mean())
        return _Similar(int(j), int(k), distance)

    def _feature_similarity(self, similar: _Similar) -> Tensor:
        """Return lambda |alpha_j - alpha_k| cos^2(phi_j, phi_k) for a random pair of samples (equation 13).

        The features of a group's images are compared as one vector. Each rank compares two of its own groups, and the
        term is averaged over ranks.
        """
        phi_j, phi_k = self._features[similar.first], self._features[similar.second]
        count = min(len(phi_j), len(phi_k))
        cosine = torch.cosine_similarity(phi_j[:count].flatten(), phi_k[:count].flatten(), dim=0)
        return self.config.feature_similarity / self.division.ranks.world_size * similar.distance * cosine.square()

    def _clip(self, gradients: Sequence[Tensor]) -> None:
        """Scale the gradient of each network's loss down to the norm `clip_gradient`, if that is set."""
        if self.config.clip_gradient:
            # These are gradients of 1/S of a network's loss.
            largest = self.config.clip_gradient / self.config.samples
            for gradient in gradients:
                gradient.mul_((largest / (gradient.norm() + 1e-6)).clamp(max=1.0))
