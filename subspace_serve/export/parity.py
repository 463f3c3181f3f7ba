"""The check that a graph that takes pixels answers as torch does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from subspace_serve.bundle.manifest import Input
from subspace_serve.bundle.session import open_session
from subspace_serve.data import Preprocessing
from subspace_serve.data.preprocessing import scale_and_shift
from subspace_serve.errors import ExportError
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics import Statistics
from subspace_serve.space.geometry import Alpha
from subspace_serve.space.subspace import Subspace

PARITY_BATCHES = (1, 2, 17)
TOLERANCE = 1e-4
"""Largest difference of a logit that is allowed, in units of the largest logit (or 1, if that is more)."""


class ServedNetwork(nn.Module):
    """A network with its preprocessing in front and its probabilities behind.

    Args:
        model: takes normalised float images (N, C, H, W), returns logits.
        preprocessing: the normalisation.
        input_dtype: `uint8` for pixels of shape (N, H, W, C), `float` for (N, C, H, W) in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, input_dtype: str = "uint8") -> None:
        super().__init__()
        self.model = model
        self.preprocessing = preprocessing
        self.takes_pixels = input_dtype == "uint8"
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(-1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, both of shape (N, classes)."""
        if self.takes_pixels:
            scale, shift = (torch.from_numpy(part).view(-1, 1, 1) for part in scale_and_shift(self.preprocessing))
            logits = self.model(image.permute(0, 3, 1, 2).to(torch.float32) * scale + shift)
        else:
            logits = self.model((image - self.mean) / self.std)
        return logits, logits.softmax(1)

    def served_input(self, pixels: Tensor) -> Tensor:
        """Return uint8 (N, H, W, C) pixels as this graph's input."""
        return pixels if self.takes_pixels else pixels.permute(0, 3, 1, 2).float().div(255).contiguous()


def as_torch(subspace: Subspace, alpha: Alpha, skeleton: Skeleton, statistics: Statistics) -> nn.Module:
    """Return the network P(alpha) with its statistics as torch runs it, on the CPU and in eval mode."""
    model = subspace.collapse(alpha, extrapolate=True)
    for layer in skeleton.batchnorms:
        module = model.get_submodule(layer.name)
        for buffer, slot in ((module.running_mean, layer.mean), (module.running_var, layer.variance)):
            buffer.copy_(torch.from_numpy(statistics.values[slot.where]))  # type: ignore[operator, union-attr]
    return model


@dataclass(frozen=True)
class ParityResult:
    """How a graph's logits differ from torch's.

    Attributes:
        provider: of ONNX Runtime.
        max_abs_diff: largest absolute difference of a logit.
        top1_flips: images whose most probable class differs.
        tolerance: largest difference that was allowed.
    """

    provider: str
    max_abs_diff: float
    top1_flips: int
    tolerance: float


def check_parity(network: ServedNetwork, pixels: Tensor, file: Path, *, input: Input, classes: int) -> ParityResult:
    """Compare ONNX Runtime with torch on real images, in batches of 1, 2 and 17.

    Args:
        network: what was exported, in eval mode on the CPU.
        pixels: images, uint8 (N, H, W, C); fewer than 20 are repeated.
        file: the exported graph.
        input: what the graph must take.
        classes: how many logits it must return.

    Raises:
        BundleError: the graph cannot be loaded or does not take that input.
        ExportError: a logit or a probability is not finite or differs by more than the tolerance, or a shape is wrong.
    """
    opened = open_session(file, input, classes, device="cpu")
    needed = sum(PARITY_BATCHES)
    pixels = pixels.repeat(-(-needed // len(pixels)), 1, 1, 1)[:needed]
    difference, flips, scale = 0.0, 0, 1.0
    for batch in pixels.split(PARITY_BATCHES):
        served = network.served_input(batch)
        with torch.inference_mode():
            expected = [output.numpy() for output in network(served)]
        found = opened.session.run(["logits", "probabilities"], {opened.input_name: served.numpy()})
        if found[0].shape != expected[0].shape:
            raise ExportError(f"the graph returns logits of shape {found[0].shape}, torch {expected[0].shape}")
        if not all(np.isfinite(output).all() for output in (*found, *expected)):
            raise ExportError("the network or its exported graph answers with numbers that are not finite")
        scale = max(scale, float(np.abs(expected[0]).max()))
        difference = max(difference, *(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True)))
        flips += int((found[0].argmax(1) != expected[0].argmax(1)).sum())
    tolerance = TOLERANCE * scale
    if difference > tolerance:
        raise ExportError(
            f"the exported graph does not answer as torch does: logits differ by up to {difference:.3g}, allowed are "
            f"{tolerance:.3g} ({flips} of {needed} answers change); the bundle was not written"
        )
    return ParityResult(opened.provider, difference, flips, tolerance)
