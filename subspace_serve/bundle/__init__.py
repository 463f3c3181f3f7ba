"""The bundle: the folder that is deployed, with its manifest, ONNX files and golden images. Imports no torch."""

from __future__ import annotations

from subspace_serve.bundle.manifest import (
    BundleFile,
    Calibration,
    Ensemble,
    Input,
    Manifest,
    Onnx,
    Parity,
    Point,
    Preprocessing,
    Reliability,
    Source,
    TemperatureFit,
)
from subspace_serve.bundle.reader import Bundle
from subspace_serve.bundle.writer import BundleWriter, write_bundle

__all__ = [
    "Bundle",
    "BundleFile",
    "BundleWriter",
    "Calibration",
    "Ensemble",
    "Input",
    "Manifest",
    "Onnx",
    "Parity",
    "Point",
    "Preprocessing",
    "Reliability",
    "Source",
    "TemperatureFit",
    "write_bundle",
]
