"""Torch's answers for a finished run: what later exports are compared with, where torch is installed and where not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from subspace_serve.data import DataSet, Preprocessing
from subspace_serve.export.golden import GoldenAnswer, write_golden
from subspace_serve.network.calibration_data import draw_calibration_data
from subspace_serve.network.network import Network
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics import Statistics
from subspace_serve.space.place import Alpha
from subspace_serve.space.subspace import Subspace
from trainer.modules import collapsed, with_statistics
from trainer.preprocessing import preprocess
from trainer.run_folder import RunFolder

IMAGES = 8
CALIBRATION_IMAGES = 128
"""Few: any statistics do, since both sides get the same."""


def torch_logits(
    subspace: Subspace, skeleton: Skeleton, preprocessing: Preprocessing, *, architecture: str | None = None
) -> Callable[[Alpha, Statistics, np.ndarray], np.ndarray]:
    """Return a function that gives torch's logits at a place with its statistics.

    It takes uint8 pixels (N, H, W, C), gives float32 (N, classes), and raises what `collapsed` raises.

    Args:
        subspace: where the places lie.
        skeleton: of its architecture.
        preprocessing: the normalisation.
        architecture: the name of the user's own architecture where the subspace has one.
    """

    def logits(alpha: Alpha, statistics: Statistics, pixels: np.ndarray) -> np.ndarray:
        model = collapsed(subspace, alpha, extrapolate=True, architecture=architecture)
        with torch.inference_mode():
            return with_statistics(model, skeleton, statistics)(preprocess(pixels, preprocessing)).numpy()

    return logits


def leave_golden_answers(run: RunFolder, subspace: Subspace, skeleton: Skeleton, data: DataSet) -> None:
    """Write torch's answers at the midpoint and at the last end into a run's folder."""
    network = Network.of(subspace, skeleton, data.preprocessing, device="cpu")
    calibration = draw_calibration_data(data.train, data.preprocessing, name="train", count=CALIBRATION_IMAGES)
    images = data.test.take(np.arange(min(IMAGES, len(data.test))))[0]
    logits = torch_logits(subspace, skeleton, data.preprocessing, architecture=subspace.architecture.name)
    answers = []
    for alpha in dict.fromkeys((subspace.geometry.midpoint, subspace.geometry.ends[-1])):
        statistics = network.recalibrate(calibration.pixels(), alpha=alpha)
        answers.append(GoldenAnswer(alpha, statistics.values, logits(alpha, statistics, images)))
    write_golden(run.path, network, images, answers)
