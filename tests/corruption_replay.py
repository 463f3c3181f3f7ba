"""The same random draws for another implementation of the corruptions and for this package.

The others draw from NumPy's global generator. Its functions are replaced while one image is corrupted, what they
hand out is recorded, and this package then receives the same from a stand-in for a generator. What differs between
the two images is then no chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from unittest import mock

import numpy as np
from numpy.random import Generator
from PIL import Image

from subspace_serve.data.corruptions.corrupt import corrupt_with
from subspace_serve.data.corruptions.severities import TABLES

REPLAYED = (
    "gaussian_noise",
    "speckle_noise",
    "glass_blur",
    "motion_blur",
    "snow",
    "frost",
    "fog",
    "elastic_transform",
    "spatter",
)
"""The random corruptions but two: shot and impulse noise draw by other means."""


class Draws:
    """What was drawn: standard normal and uniform values in their order, and integers in theirs."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.integers: list[int] = []


@contextmanager
def recorded(seed: int) -> Iterator[Draws]:
    """Let NumPy's global `normal`, `uniform` and `randint` draw with `seed`, and record what they do."""
    generator = np.random.default_rng(seed)
    draws = Draws()

    def normal(loc: float = 0.0, scale: float = 1.0, size: Any = None) -> Any:
        values = np.asarray(generator.standard_normal(size, dtype=np.float32))
        draws.values.extend(values.ravel())
        return loc + scale * values.astype(np.float64)

    def uniform(low: float, high: float, size: Any = None) -> Any:
        values = np.asarray(generator.random(size, dtype=np.float32))
        draws.values.extend(values.ravel())
        return low + (high - low) * values.astype(np.float64)

    def randint(low: int, high: int | None = None, size: Any = None) -> Any:
        values = generator.integers(*((0, low) if high is None else (low, high)), size)
        draws.integers.extend(np.ravel(values))
        return values

    with ExitStack() as stack:
        for function in (normal, uniform, randint):
            stack.enter_context(mock.patch.object(np.random, function.__name__, function))
        yield draws


class Replay:
    """Stands in for a generator, and hands out recorded draws."""

    def __init__(self, draws: Draws) -> None:
        self._values = np.array(draws.values)
        self._integers = list(draws.integers)

    def standard_normal(self, dtype: Any, out: np.ndarray) -> None:
        self._fill(out)

    def random(self, dtype: Any, out: np.ndarray) -> None:
        self._fill(out)

    def uniform(self, low: float, high: float) -> float:
        value = np.empty(1)
        self._fill(value)
        return low + (high - low) * float(value[0])

    def integers(self, low: int, high: int | None = None, size: tuple[int, ...] | None = None) -> Any:
        if size is None:
            return self._integers.pop(0)
        # Glass: the others draw pixel by pixel from the last to the first, columns before rows.
        rounds, _, rows, columns = size
        moves = np.array(self._integers).reshape(rounds, rows, columns, 2)[:, ::-1, ::-1]
        return np.stack([moves[..., 1], moves[..., 0]], axis=1)

    def _fill(self, out: np.ndarray) -> None:
        # Of the square of draws that this package's fog takes, the last is never used, and never drawn by others.
        out[...] = np.resize(self._values[: out.size], out.shape)
        self._values = self._values[out.size :]


def both(function: Callable, image: np.ndarray, name: str, severity: int, preset: str, seed: int) -> np.ndarray:
    """Return one image, uint8 (height, width, 3), under `function` and under this package, stacked as integers."""
    with recorded(seed) as draws:
        theirs = np.asarray(function(Image.fromarray(image), severity)).astype(np.uint8)
    parameters = TABLES[preset][name][severity - 1]
    ours = corrupt_with(image[None], name, parameters, [cast(Generator, Replay(draws))])[0]
    return np.stack([theirs, ours]).astype(int)


def differences(function: Callable, images: np.ndarray, name: str, severity: int, preset: str) -> np.ndarray:
    """Return the absolute differences in grey levels, of the images' shape; image i draws with seed i."""
    pairs = [both(function, image, name, severity, preset, seed) for seed, image in enumerate(images)]
    return np.stack([np.abs(theirs - ours) for theirs, ours in pairs])
