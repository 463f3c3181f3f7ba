"""How good predictions are: accuracy, likelihood, calibration, and how far two members differ.

Logits and probabilities are (N, classes), labels (N,) integers. Everything is computed in float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from subspace_serve.errors import DataError

CALIBRATION_BINS = 15
AGGREGATES = ("probabilities", "logits")


def classification_metrics(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """The keys `accuracy`, `nll`, `ece` and `brier`.

    Raises:
        DataError: the rows are not probabilities, or the labels do not fit them.
    """
    probabilities, labels = _checked(probabilities, labels)
    return {
        "accuracy": accuracy(probabilities, labels),
        "nll": negative_log_likelihood(probabilities, labels),
        "ece": expected_calibration_error(probabilities, labels),
        "brier": brier_score(probabilities, labels),
    }


def accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """Fraction of images whose most probable class is the label, in [0, 1]."""
    return probabilities.argmax(dim=1).eq(labels).double().mean().item()


def negative_log_likelihood(probabilities: Tensor, labels: Tensor) -> float:
    """Mean of -log p(label), in nats.

    A probability of 0 counts as the smallest normal float64 (about 708 nats), so that one confident mistake
    does not make the mean infinite.
    """
    of_label = probabilities.double().gather(1, labels.unsqueeze(1))
    return -of_label.clamp_min(torch.finfo(torch.float64).tiny).log().mean().item()


def expected_calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """ECE: mean gap of confidence and accuracy over 15 equal-width bins (Guo et al. 2017, equation 3)."""
    # Imported here, because it takes a second or two.
    from torchmetrics.functional.classification import multiclass_calibration_error

    # torchmetrics takes a tensor with any value above 1, be it by rounding, for logits.
    return multiclass_calibration_error(
        probabilities.clamp(0, 1),
        labels,
        num_classes=probabilities.shape[1],
        n_bins=CALIBRATION_BINS,
        norm="l1",
        validate_args=False,
    ).item()


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Squared error to the one-hot label, summed over classes, mean over images, in [0, 2] (Brier 1950)."""
    one_hot = torch.nn.functional.one_hot(labels, probabilities.shape[1])
    return (probabilities.double() - one_hot).square().sum(dim=1).mean().item()


def total_variation(first: Tensor, second: Tensor) -> float:
    """Half the L1 distance between two members' probabilities, mean over images, in [0, 1] (appendix E).

    Raises:
        DataError: the two differ in shape.
    """
    if first.shape != second.shape:
        raise DataError(
            "Two members' probabilities must be for the same images and classes; "
            f"found shapes {tuple(first.shape)} and {tuple(second.shape)}."
        )
    return (first.double() - second.double()).abs().sum(dim=1).mean().item() / 2


def ensemble_probabilities(
    logits: Tensor | Iterable[Tensor],
    weights: Sequence[float] | None = None,
    aggregate: str = "probabilities",
) -> Tensor:
    """Probabilities (N, classes), float64, of the members' weighted mean.

    Args:
        logits: one (N, classes) tensor a member, or all as (members, N, classes).
        weights: non-negative, one a member, scaled to sum to 1; equal by default.
        aggregate: `probabilities` averages the softmax outputs. `logits` averages the logits and takes the
            softmax of that: the predicted class is that of summed logits, as in the paper's reference.

    Raises:
        ValueError: no member, members of several shapes, weights that do not fit, or an unknown aggregate.
    """
    members = [member.detach().cpu().double() for member in logits]
    shapes = sorted({tuple(member.shape) for member in members})
    if len(shapes) > 1:
        raise ValueError(f"The members' logits must have one shape; found {shapes}.")
    shares = _shares(weights, len(members))
    if aggregate not in AGGREGATES:
        raise ValueError(f"aggregate must be one of {AGGREGATES}; found {aggregate!r}.")
    if aggregate == "logits":
        return _weighted_sum(members, shares).softmax(dim=1)
    return _weighted_sum([member.softmax(dim=1) for member in members], shares)


def _weighted_sum(members: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    total = torch.zeros_like(members[0])
    for member, share in zip(members, shares, strict=True):
        total.add_(member, alpha=share)
    return total


def _shares(weights: Sequence[float] | None, members: int) -> list[float]:
    """The weights scaled to sum to 1."""
    if members == 0:
        raise ValueError("An ensemble needs at least one member; found none.")
    given = [1.0] * members if weights is None else [float(weight) for weight in weights]
    total = sum(given)
    if len(given) != members or min(given) < 0 or not 0 < total < float("inf"):
        raise ValueError(
            f"An ensemble of {members} needs {members} weights, none negative and not all 0; found {given}."
        )
    return [weight / total for weight in given]


def _checked(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both on the CPU, in float64 and int64, once they are known to fit each other."""
    probabilities = probabilities.detach().cpu().double()
    labels = labels.detach().cpu()
    if probabilities.ndim != 2 or 0 in probabilities.shape or labels.shape != probabilities.shape[:1]:
        raise DataError(
            "Metrics need probabilities (N, classes) and labels (N,) of at least one image; "
            f"found shapes {tuple(probabilities.shape)} and {tuple(labels.shape)}."
        )
    sums = probabilities.sum(dim=1)
    if not (probabilities.min() >= 0 and (sums - 1).abs().max() < 1e-3):  # so that NaN fails too
        raise DataError(
            "Each row of probabilities must be non-negative and sum to 1; "
            f"found a minimum of {probabilities.min().item():.4g} and sums from {sums.min().item():.4g} "
            f"to {sums.max().item():.4g}; were these logits?"
        )
    classes = probabilities.shape[1]
    if labels.is_floating_point() or labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"Labels must be integers from 0 to {classes - 1}; found {labels.dtype} "
            f"from {labels.min().item()} to {labels.max().item()}."
        )
    return probabilities, labels.long()
