"""Random mixtures of a subspace's endpoints at three scales (appendix H, equation 18; Frankle et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from subspace_serve.answers import softmax
from subspace_serve.data import Images
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.measure.networks import check_labels
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.network.network import Network
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace, weighted_sum

Scale = Literal["global", "layerwise", "weightwise"]
"""What shares one place: the whole network, each layer (module), or each single weight alone."""

SCALES: tuple[Scale, ...] = get_args(Scale)


def mixed_weights(subspace: Subspace, scale: Scale, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the weights of one random mixture; places are uniform in the domain, as in training.

    `global` is an ordinary place of the subspace. `layerwise` draws a place of its own for each layer: parameters of
    one module, such as a linear layer's weight and bias, share it. `weightwise` draws one for every single weight: on
    a line this is the hyper-rectangle whose corners are the endpoints (figure 21).

    Args:
        subspace: its geometry gives the places and the coefficients, its endpoints the weights.
        scale: one of `SCALES`.
        generator: draws the places.
    """
    geometry, endpoints = subspace.geometry, subspace.endpoints
    names = list(endpoints[0])
    if scale == "weightwise":
        return {name: _weightwise(geometry, [endpoint[name] for endpoint in endpoints], generator) for name in names}
    layers = dict.fromkeys("" if scale == "global" else _layer(name) for name in names)
    coefficients = geometry.coefficients_of(geometry.sample(generator, len(layers)))
    of_layer = dict(zip(layers, coefficients, strict=True))
    return {
        name: weighted_sum(
            of_layer["" if scale == "global" else _layer(name)], [endpoint[name] for endpoint in endpoints]
        )
        for name in names
    }


def mixture_accuracies(
    subspace: Subspace,
    network: Network,
    images: Images,
    calibration: CalibrationData,
    *,
    scale: Scale,
    draws: int = 10,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> list[dict[str, float]]:
    """Measure random mixtures; the mean of their `accuracy` estimates equation 18.

    Every mixture's BatchNorm is recalibrated (appendix D.3).

    Args:
        subspace: whose endpoints are mixed.
        network: the same subspace on ONNX Runtime.
        images: labelled images.
        calibration: images from which each network's BatchNorm statistics are recomputed.
        scale: one of `SCALES`.
        draws: how many mixtures, 1 or more.
        seed: of the places.
        progress: called with a line for each mixture.

    Returns:
        For each mixture `accuracy`, `nll`, `ece` and `brier` (fractions; nats).

    Raises:
        DataError: there are no images, or a label is not one of the network's classes.
    """
    check_labels(images, subspace.architecture.classes)
    generator = np.random.default_rng(seed)
    measured = []
    for draw in range(draws):
        weights = network.skeleton.vector(mixed_weights(subspace, scale, generator))
        statistics = network.recalibrate(calibration.pixels(), weights=weights)
        logits = network.with_weights(weights, statistics).logits_of(images)
        measured.append(classification_metrics(softmax(logits), images.labels))
        progress(f"{scale} mixture {draw + 1} of {draws}")
    return measured


def _layer(name: str) -> str:
    """Return the module that a parameter belongs to."""
    return name.rpartition(".")[0]


def _weightwise(geometry: Geometry, arrays: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Mix arrays of one shape with a place for each of their numbers."""
    first = arrays[0]
    coefficients = geometry.coefficients_of(geometry.sample(generator, first.size))
    mixed = sum(column.reshape(first.shape) * array for column, array in zip(coefficients.T, arrays, strict=True))
    return np.asarray(mixed, first.dtype)
