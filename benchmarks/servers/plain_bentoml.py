"""A plain BentoML service of one model, as BentoML's own tutorials write it: an image or nested lists in, a list out.

BENCHMARK_THREADS is the number of threads that BentoML gives its synchronous methods; its own default is 1.
"""

from __future__ import annotations

import os
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType
from PIL.Image import Image

from benchmarks.servers.model import Model


@bentoml.service(
    workers=1,
    threads=int(os.environ.get("BENCHMARK_THREADS", "1")),
    logging={"access": {"enabled": False}},
)
class PlainBentoml:
    """One model, on inputs as BentoML decodes them."""

    def __init__(self) -> None:
        self.model = Model.from_environment()

    @bentoml.api
    def predict(self, images: Annotated[np.ndarray, DType("uint8")]) -> np.ndarray:
        """Classify images (N, height, width, channels) that come as nested lists in JSON."""
        return self.model.probabilities(images)

    @bentoml.api
    def predict_image(self, images: Image) -> np.ndarray:
        """Classify one image file of a multipart form."""
        return self.model.probabilities(self.model.pixels(images))
