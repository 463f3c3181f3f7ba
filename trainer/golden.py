"""Torch's answers for a finished run, kept so that later exports can be checked where torch is not installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from subspace_serve.data import DataSet, Preprocessing
from subspace_serve.export.golden import GoldenAnswer, write_golden
from subspace_serve.network.calibration_data import draw_calibration_data
from subspace_serve.network.network import Network
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics import Statistics
from subspace_serve.network.statistics_set import StatisticsSet
from subspace_serve.space.place import Alpha
from subspace_serve.space.subspace import Subspace
from trainer.modules import collapsed, load_weights, with_statistics
from trainer.preprocessing import preprocess

IMAGES = 8
CALIBRATION_IMAGES = 128
"""Few: any statistics will do, since both sides get the same."""


def torch_logits(
    subspace: Subspace, skeleton: Skeleton, preprocessing: Preprocessing, *, architecture: str | None = None
) -> Callable[[Alpha, Statistics, np.ndarray], np.ndarray]:
    """Return a function that gives torch's logits at a place with its statistics.

    It takes uint8 pixels (N, H, W, C), gives float32 (N, classes), and raises what `collapsed` raises.

    Args:
        subspace: where the places lie.
        skeleton: of its architecture.
        preprocessing: the normalisation.
        architecture: the name of the user's own architecture, if the subspace has one.
    """

    built: list[nn.Module] = []

    def logits(alpha: Alpha, statistics: Statistics, pixels: np.ndarray) -> np.ndarray:
        if not built:
            built.append(collapsed(subspace, alpha, extrapolate=True, architecture=architecture))
        (model,) = built
        load_weights(model, subspace.weights(alpha, extrapolate=True))
        with torch.inference_mode():
            return with_statistics(model, skeleton, statistics)(preprocess(pixels, preprocessing)).numpy()

    return logits


def leave_golden_answers(
    folder: Path,
    subspace: Subspace,
    network: Network,
    preprocessing: Preprocessing,
    *,
    calibration: np.ndarray | StatisticsSet,
    images: np.ndarray,
) -> None:
    """Write torch's answers at the midpoint and at the last end into a run's folder.

    Args:
        folder: the run's.
        subspace, network, preprocessing: the networks, in weights and on ONNX Runtime.
        calibration: images for BatchNorm's statistics, uint8 (N, H, W, C), or statistics; any do, since both sides get
            the same.
        images: what is answered, uint8 (K, H, W, C).
    """
    logits = torch_logits(subspace, network.skeleton, preprocessing, architecture=subspace.architecture.name)
    answers = []
    for alpha in dict.fromkeys((subspace.geometry.midpoint, subspace.geometry.ends[-1])):
        if isinstance(calibration, StatisticsSet):
            statistics = calibration.at(alpha)
        else:
            statistics = network.recalibrate(calibration, alpha=alpha)
        answers.append(GoldenAnswer(alpha, statistics.values, logits(alpha, statistics, images)))
    write_golden(folder, network, images, answers)


def golden_images(data: DataSet) -> dict[str, np.ndarray]:
    """Return the images of a data set that `leave_golden_answers` takes."""
    calibration = draw_calibration_data(data.train, data.preprocessing, name="train", count=CALIBRATION_IMAGES)
    return {
        "calibration": np.concatenate(list(calibration.pixels())),
        "images": data.test.take(np.arange(min(IMAGES, len(data.test))))[0],
    }
