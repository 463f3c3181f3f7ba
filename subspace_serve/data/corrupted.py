"""Images that are corrupted as they are read."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from subspace_serve.data.images import Images
from subspace_serve.data.views import ChangedImages


class CorruptedImages(ChangedImages):
    """Images of another set under one corruption, made when they are read; no more than a batch is in memory.

    What an image becomes depends on its pixels, the corruption and the seed, not on its place or its batch: a
    subset of the corrupted images is the corrupted subset. Who reads them often keeps them in memory with
    `MemoryImages(*corrupted.take(...))`.
    """

    def __init__(
        self,
        images: Images,
        name: str,
        severity: int,
        *,
        preset: str | None = None,
        seed: int = 0,
        workers: int | None = None,
    ) -> None:
        """Say how the images are to be corrupted; none is read yet.

        Args:
            images: any labelled images, grey or RGB.
            name: the type of corruption, such as `fog`.
            severity: 1 (weak) to 5 (strong).
            preset: the table of strengths, `cifar`, `tiny` or `imagenet`; None chooses by the images' size.
            seed: decides what is random in a corruption.
            workers: threads that corrupt a batch, as `subspace_serve.data.corruptions.corrupt` has them.

        Raises:
            DataError: there is no such corruption, severity or preset, or images of that shape are not corrupted.
        """
        from subspace_serve.data.corruptions import corrupt, preset_for

        super().__init__(images)
        height, width, _ = images.shape
        self.name = name
        self.severity = severity
        self.preset = preset_for(height, width) if preset is None else preset
        self.seed = seed
        self.workers = workers
        # No image at all is checked like any other, so that what is wrong is said now and not at the first batch.
        corrupt(np.empty((0, *images.shape), np.uint8), name, severity, preset=self.preset, seed=seed)

    def change(self, pixels: np.ndarray) -> np.ndarray:
        from subspace_serve.data.corruptions import corrupt

        return corrupt(pixels, self.name, self.severity, preset=self.preset, seed=self.seed, workers=self.workers)

    def over(self, images: Images) -> CorruptedImages:
        return CorruptedImages(
            images, self.name, self.severity, preset=self.preset, seed=self.seed, workers=self.workers
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the images' own fingerprint and of all that says how they are corrupted."""
        how = [self.images.fingerprint(), self.name, self.severity, self.preset, self.seed]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()
