"""One network as an ONNX graph that takes pixels, and the check that it answers as torch does."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from subspace_serve.bundle.manifest import Input
from subspace_serve.bundle.session import open_session
from subspace_serve.data import Preprocessing
from subspace_serve.errors import ExportError
from subspace_serve.network.preprocessing import preprocess

OPSET = 20
EXPORTER = "torch.onnx dynamo"
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
            logits = self.model(preprocess(image, self.preprocessing))
        else:
            logits = self.model((image - self.mean) / self.std)
        return logits, logits.softmax(1)

    def served_input(self, pixels: Tensor) -> Tensor:
        """Return uint8 (N, H, W, C) pixels as this graph's input."""
        return pixels if self.takes_pixels else pixels.permute(0, 3, 1, 2).float().div(255).contiguous()


def export_onnx(network: ServedNetwork, pixels: Tensor, file: Path, *, opset: int = OPSET) -> None:
    """Write a network as one ONNX file with a dynamic batch, and run ONNX's full checker on it.

    Args:
        network: in eval mode, on the CPU.
        pixels: two or more example images, uint8 (N, H, W, C).
        file: where to write.
        opset: ONNX operator set, 20 or newer.

    Raises:
        ExportError: the exporter or the checker refuses the network.
    """
    # Traced at a batch of two: a batch of one would be frozen into the graph.
    example = network.served_input(pixels[:2])
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=["image"],
                output_names=["logits", "probabilities"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
            assert program is not None
            program.save(str(file), external_data=False)
        onnx.checker.check_model(str(file), full_check=True)
    except OSError:
        raise  # a full disk is not the network's fault
    except Exception as error:
        # The exporter raises errors of many kinds; whatever it is, this network cannot be exported.
        raise ExportError(f"the network cannot be exported to ONNX opset {opset}: {_first_line(error)}") from error


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


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its advice to its own developers off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
