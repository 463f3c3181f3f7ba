"""The network behind all the other servers: one point of a bundle, on one thread of ONNX Runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

BUNDLE_VARIABLE = "BENCHMARK_BUNDLE"
"""The environment variable that names the bundle's folder; its default point answers."""


class Model:
    """A point's graph, which takes uint8 pixels (N, height, width, channels)."""

    def __init__(self, bundle: Path) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        height, width, channels = (manifest["input"][name] for name in ("height", "width", "channels"))
        self.shape = (height, width, channels)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            bundle / manifest["points"][manifest["default"]]["file"], options, providers=["CPUExecutionProvider"]
        )

    @classmethod
    def from_environment(cls) -> Model:
        """Load the bundle that the environment names."""
        return cls(Path(os.environ[BUNDLE_VARIABLE]))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return (N, classes) float32 probabilities for N images."""
        return self._session.run(["probabilities"], {"image": images})[0]

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return an image file's pixels (1, height, width, channels) in the network's size."""
        height, width, channels = self.shape
        image = image.convert("RGB" if channels == 3 else "L").resize((width, height))
        return np.asarray(image, np.uint8).reshape(1, *self.shape)
