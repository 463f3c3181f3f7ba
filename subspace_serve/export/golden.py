"""Answers that training leaves with a run: torch's own, for machines without torch.

`golden.safetensors` holds a few images and, for some places of the subspace, BatchNorm statistics and torch's logits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from subspace_serve.errors import CheckpointError, ExportError
from subspace_serve.export.parity import allowed_difference
from subspace_serve.files import atomic_file
from subspace_serve.network.network import Network
from subspace_serve.network.statistics import Statistics
from subspace_serve.space.place import Alpha, place_from_json

FILE_NAME = "golden.safetensors"


@dataclass(frozen=True)
class GoldenAnswer:
    """Torch's logits at one place. Shapes (K, classes), and (k,) of the statistics as the skeleton lays them out."""

    alpha: Alpha
    statistics: np.ndarray
    logits: np.ndarray


def write_golden(run: Path, network: Network, images: np.ndarray, answers: Sequence[GoldenAnswer]) -> None:
    """Write torch's answers for images, uint8 (K, H, W, C), into a run's folder, atomically."""
    tensors = {"images": images}
    for index, answer in enumerate(answers):
        tensors |= {f"statistics.{index}": answer.statistics, f"logits.{index}": answer.logits}
    metadata = {"endpoints": _digest(network), "alphas": json.dumps([answer.alpha for answer in answers])}
    with atomic_file(run / FILE_NAME) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def check_golden(run: Path, network: Network) -> bool:
    """Check that a run's skeleton gives the answers that training left; return False where it left none.

    Answers for other endpoints (from an earlier epoch) count as none.

    Raises:
        CheckpointError: the file is damaged.
        ExportError: the skeleton gives other answers.
    """
    file = run / FILE_NAME
    if not file.is_file():
        return False
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            if metadata["endpoints"] != _digest(network):
                return False
            images = opened.get_tensor("images")
            answers = [
                GoldenAnswer(
                    place_from_json(alpha),
                    opened.get_tensor(f"statistics.{index}"),
                    opened.get_tensor(f"logits.{index}"),
                )
                for index, alpha in enumerate(json.loads(metadata["alphas"]))
            ]
    # The last two also for types that NumPy does not have.
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is truncated or damaged ({error}); copy the run again") from error
    for answer in answers:
        found = network.at(answer.alpha, Statistics(answer.statistics, 0)).logits(images)
        difference = float(np.abs(found - answer.logits).max())
        tolerance = allowed_difference(answer.logits)
        if not difference <= tolerance:
            raise ExportError(
                f"the run's skeleton does not answer as torch did when it was trained: logits at alpha {answer.alpha} "
                f"differ by up to {difference:.3g}, allowed are {tolerance:.3g}; copy the run again, or try another "
                "version of ONNX Runtime"
            )
    return True


def _digest(network: Network) -> str:
    return hashlib.sha256(network.endpoints.tobytes()).hexdigest()
