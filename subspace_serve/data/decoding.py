"""Decoding image files to pixels of one size, on this thread or on several."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from subspace_serve.errors import DataError
from subspace_serve.pixels import FORMATS, cut, fitted, prepared, random_area

CHANNELS = (1, 3)
# The service does not decode PPM, whose text form is slow to read; in training folders it is common.
FILE_FORMATS = (*FORMATS, "PPM")
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Decoder:
    """How a picture becomes pixels: uint8 of shape (height, width, channels).

    Attributes:
        height, width: the size wanted.
        channels: 3 (RGB) or 1 (grey).
        cropped: the files are central crops already, as ImageNet-C's are, so that no border is cut off.
    """

    height: int
    width: int
    channels: int
    cropped: bool = False

    def decode(self, path: Path, seed: int | None = None) -> np.ndarray:
        """Return the centre of a picture, or with a seed a random area of it.

        Raises:
            DataError: the file, which the message names, cannot be read as an image.
        """
        try:
            picture = _opened(path, self.channels)
        except MemoryError:
            raise
        except Exception as error:  # damaged files make the decoders raise errors of every kind
            raise DataError(f"{path} cannot be read as an image ({_why(error)}); replace it or take it away") from error
        if seed is None:
            return fitted(picture, self.height, self.width, cropped=self.cropped)
        area = random_area(picture.height, picture.width, np.random.default_rng(seed))
        return cut(picture, area, self.height, self.width)


def decoded_size(path: Path) -> tuple[int, int] | str:
    """Decode a whole picture; return its upright width and height, or why it cannot be read."""
    try:
        return _opened(path, 3).size
    except UnidentifiedImageError:
        return "not an image"
    except MemoryError:
        raise
    except Exception as error:  # as above
        return _why(error)


def _why(error: Exception) -> str:
    """Return an error's text, or its name where it has none."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _opened(path: Path, channels: int) -> Image.Image:
    # Not by its path: Pillow would memory-map some files, and then corrupts TIFF files that need rotating.
    with open(path, "rb") as file, Image.open(file, formats=FILE_FORMATS) as opened:
        return prepared(opened, channels)


def decode_batches(
    decoder: Decoder,
    root: Path,
    files: np.ndarray,
    batches: Sequence[np.ndarray],
    *,
    seeds: np.ndarray | None,
    workers: int,
) -> Iterator[np.ndarray]:
    """Yield the pixels of each batch in order, uint8 (B, height, width, channels).

    Threads decode a few batches ahead, since Pillow releases the GIL. They end with the iteration, and their number
    does not change the result.

    Args:
        files: encoded paths relative to `root`, bytes (N,).
        batches: the indices of each batch, not empty.
        seeds: one per file for random areas, int64 (N,); None for the centre.
        workers: threads; 0 decodes on the calling thread.

    Raises:
        DataError: a file, which the message names, cannot be decoded.
    """

    def decode(index: int) -> np.ndarray:
        return decoder.decode(root / os.fsdecode(files[index]), None if seeds is None else int(seeds[index]))

    if workers == 0:
        for batch in batches:
            yield np.stack([decode(index) for index in batch])
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[list[Future[np.ndarray]]] = deque()
    try:
        for batch in batches:
            waiting.append([pool.submit(decode, index) for index in batch])
            if len(waiting) > _BATCHES_AHEAD:
                yield np.stack([future.result() for future in waiting.popleft()])
        while waiting:
            yield np.stack([future.result() for future in waiting.popleft()])
    finally:
        pool.shutdown(cancel_futures=True)
