"""How well a score ranks answers, so that the unsure ones can be left out: the risk-coverage curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from subspace_serve.errors import DataError


@dataclass(frozen=True)
class RiskCoverage:
    """The error rate among the images that are answered, as more and more are (Geifman and El-Yaniv 2017).

    Attributes:
        risks: the error rate among the surest k images, for k from 1 to N. Shape (N,).
    """

    risks: np.ndarray

    @property
    def aurc(self) -> float:
        """The area under the curve: the mean of the risks (Geifman et al. 2019). Smaller is better."""
        return float(self.risks.mean())

    def answered_at(self, risk: float) -> float:
        """Return the largest share of images with an error rate of at most `risk`; 0 where there is none."""
        allowed = np.flatnonzero(self.risks <= risk)
        return float(allowed[-1] + 1) / len(self.risks) if len(allowed) else 0.0


def risk_coverage(scores: np.ndarray, right: np.ndarray) -> RiskCoverage:
    """Rank images by a score. Images of equal score share their mistakes equally, so that their order does not count.

    Args:
        scores: higher where the answer is surer. Shape (N,).
        right: whether each answer is right. Shape (N,).

    Raises:
        DataError: there are no images, or the shapes differ.
    """
    scores, right = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=bool)
    if scores.ndim != 1 or scores.shape != right.shape or not len(scores):
        raise DataError(
            "A risk-coverage curve takes a score and a right or wrong for each of one image or more; "
            f"found shapes {scores.shape} and {right.shape}."
        )
    values, group = np.unique(-scores, return_inverse=True)
    group = group.reshape(-1)
    shares = np.bincount(group, weights=~right) / np.bincount(group)
    wrong = np.repeat(shares, np.bincount(group, minlength=len(values)))
    return RiskCoverage(np.cumsum(wrong) / np.arange(1, len(wrong) + 1))
