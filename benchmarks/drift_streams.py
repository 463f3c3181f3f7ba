"""Many streams of images at once, drawn from the statistics of images that were answered once, and their alarms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from subspace_serve.drift import BETS, BINS, FALSE_ALARMS, bet, counts_of, p_values

_CHUNK = 64

Draw = Callable[[int, int], np.ndarray]
"""Returns the bins (R, S, N) of the images from one number, counting from 0, to before another, of R streams."""


def drawn_from(pool: np.ndarray, streams: int, random: np.random.Generator) -> Draw:
    """Draw images of a pool of bins (S, M) independently, with replacement."""

    def draw(begin: int, end: int) -> np.ndarray:
        return np.moveaxis(pool[:, random.integers(0, pool.shape[1], (streams, end - begin))], 0, 1)

    return draw


@dataclass(frozen=True)
class Streams:
    """R streams at the same image; see `subspace_serve.drift.Stream`.

    Attributes:
        counts: shape (R, S, BINS).
        stakes: shape (R, S, BETS).
        alarms: the image after which each raised its alarm, 0 where there was none. Shape (R,).
        images: how many were seen.
    """

    counts: np.ndarray
    stakes: np.ndarray
    alarms: np.ndarray
    images: int = 0

    @classmethod
    def begin(cls, calibration: np.ndarray) -> Streams:
        """Begin streams that are compared with calibration images of these bins (R, S, C)."""
        counts = counts_of(calibration) if calibration.shape[-1] else np.zeros((*calibration.shape[:2], BINS), int)
        return cls(counts, np.full((*counts.shape[:2], BETS), -np.inf), np.zeros(len(counts), int))

    def after(self, number: int, draw: Draw, random: np.random.Generator, *, until_alarm: bool = False) -> Streams:
        """Return the streams after more images, or where each has raised an alarm."""
        counts, stakes, alarms, images = self.counts, self.stakes, self.alarms.copy(), self.images
        limit = np.log(counts.shape[1] / FALSE_ALARMS)
        for begin in range(0, number, _CHUNK):
            bins = draw(begin, min(begin + _CHUNK, number))
            p = p_values(counts, bins, random.random(bins.shape))
            stakes, wealth = bet(stakes, p, images)
            reached = (wealth >= limit).any(axis=1)
            first = np.where(reached.any(axis=1), images + reached.argmax(axis=1) + 1, 0)
            alarms = np.where(alarms > 0, alarms, first)
            counts = counts + counts_of(bins)
            images += bins.shape[-1]
            if until_alarm and alarms.all():
                break
        return Streams(counts, stakes, alarms, images)

    def delays(self, number: int, draw: Draw, random: np.random.Generator) -> np.ndarray:
        """Return how many images of a change each stream takes to raise an alarm, infinity where it does not.

        What was raised before the change is a false alarm, and forgotten. Shape (R,).
        """
        fresh = replace(self, alarms=np.zeros_like(self.alarms))
        alarms = fresh.after(number, draw, random, until_alarm=True).alarms
        return np.where(alarms > 0, alarms - self.images, np.inf)
