"""SWA-Gaussian: a Gaussian fitted to networks of one trajectory (Maddox et al. 2019; section 4.5, appendix D.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from subspace_serve.space.subspace import Weights


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian over weights whose covariance is half diagonal and half of low rank.

    Its covariance is diag(variance) / 2 + D D^T / (2 (K - 1)), with the K deviations as D's columns.

    Attributes:
        mean: the members' mean, which is their stochastic weight average (SWA).
        variance: of each weight over the members: the mean square about the mean.
        deviations: by parameter, the K members less the mean. Shape (K, *shape).
    """

    mean: Weights
    variance: Weights
    deviations: Mapping[str, np.ndarray]

    @property
    def members(self) -> int:
        """K, the number of networks that it was fitted to."""
        return len(next(iter(self.deviations.values())))

    def sample(self, generator: torch.Generator) -> dict[str, np.ndarray]:
        """Draw the weights of one network (Maddox et al. 2019, equation 1); equal generators draw equal weights.

        theta = mean + sqrt(variance / 2) * z1 + D z2 / sqrt(2 (K - 1)), z1 and z2 standard normal. z2 is one vector for
        the whole network, which is what makes its weights vary together.
        """
        along = _normal((self.members,), generator) / math.sqrt(2 * (self.members - 1))
        drawn = {}
        # Sorted, so that draws do not depend on the order in which a checkpoint lists the parameters.
        for name in sorted(self.mean):
            mean = self.mean[name]
            independent = np.sqrt(self.variance[name].astype(np.float64) / 2) * _normal(mean.shape, generator)
            together = np.tensordot(along, self.deviations[name].astype(np.float64), 1)
            drawn[name] = np.asarray(mean + (independent + together), mean.dtype)
        return {name: drawn[name] for name in self.mean}


def fit_gaussian(members: Sequence[Weights]) -> Gaussian:
    """Fit a Gaussian to the weights of K networks of one run, 2 or more (the paper takes 6).

    All members are known, so the deviations are from their final mean, and D D^T / (K - 1) is their sample covariance.
    The original sees them one by one and takes deviations from the running mean.
    """
    mean, variance, deviations = {}, {}, {}
    for name, first in members[0].items():
        stacked = np.stack([member[name] for member in members]).astype(np.float64)
        centre = stacked.mean(0)
        mean[name] = np.asarray(centre, first.dtype)
        deviations[name] = np.asarray(stacked - centre, first.dtype)
        # The mean of squares about the mean: what Maddox et al. write as E[theta^2] - E[theta]^2, without the
        # cancellation for which they clamp.
        variance[name] = np.asarray(np.square(stacked - centre).mean(0), first.dtype)
    return Gaussian(mean, variance, deviations)


def _normal(shape: Sequence[int], generator: torch.Generator) -> np.ndarray:
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).numpy()
