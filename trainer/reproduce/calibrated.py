"""Ensembles compared at their best temperature, and counted in independent networks (Ashukha et al. 2020).

A log-likelihood without a temperature says more about confidence than about the ensemble, so each is compared at the
temperature that suits it, found by test-time cross-validation (arXiv 2002.06470). An ensemble is then
worth as many independently trained networks as reach the same number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from subspace_serve.answers import apply_temperature, logarithm
from subspace_serve.measure.temperature import fit_temperature

SPLITS = 5
"""How often the images are halved, as in the paper."""


def calibrated_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean log-likelihood, in nats, of labels at temperatures that were fitted on other images.

    The images are halved at random; the temperature of each half is fitted on the other. The result is the mean over
    the images and over several such halvings, always the same ones.

    Args:
        probabilities: the final answers, shape (N, classes), N of 2 or more.
        labels: integers, shape (N,).

    Raises:
        DataError: as `fit_temperature`.
    """
    generator = np.random.default_rng(0)
    likelihoods = []
    for _ in range(SPLITS):
        halves = np.array_split(generator.permutation(len(labels)), 2)
        for fitting, scored in (halves, halves[::-1]):
            temperature = fit_temperature(logarithm(probabilities[fitting]), labels[fitting])
            answers = apply_temperature(probabilities[scored], temperature)
            likelihoods.append(logarithm(answers)[np.arange(len(scored)), labels[scored]].sum())
    return float(sum(likelihoods) / (SPLITS * len(labels)))


def deep_ensemble_equivalent(log_likelihood: float, by_size: Sequence[float]) -> float:
    """Return how many independent networks reach a calibrated log-likelihood: the smallest number, at least 1.

    Between two sizes the log-likelihood is interpolated linearly (section 4 of the paper, figure 2).

    Args:
        log_likelihood: of the ensemble that is judged.
        by_size: those of ensembles of 1, 2, 3, ... independent networks.

    Returns:
        The number, or infinity when not even the largest of these ensembles reaches it.
    """
    if log_likelihood <= by_size[0]:
        return 1.0
    for size, (smaller, larger) in enumerate(pairwise(by_size), start=1):
        if log_likelihood <= larger:
            return size + (log_likelihood - smaller) / (larger - smaller)
    return math.inf
