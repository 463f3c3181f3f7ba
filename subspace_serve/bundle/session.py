"""ONNX Runtime sessions that say which execution provider they really use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.bundle.manifest import Input
from subspace_serve.errors import BundleError, reason_of
from subspace_serve.network.sessions import CUDA, Device, providers, session_options

import onnxruntime  # isort: skip -- after `sessions`, which turns its telemetry off

_ELEMENT_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}


@dataclass(frozen=True)
class PointSession:
    """One point's graph, loaded."""

    session: Any
    provider: str
    input_name: str

    def logits(self, images: np.ndarray, run: Run | None = None) -> np.ndarray:
        """Return (N, classes) float32 logits for N images in the graph's input format; `run` can stop it early."""
        logits: np.ndarray
        (logits,) = self.session.run(["logits"], {self.input_name: images}, run.options if run else None)
        return logits


class Run:
    """One or several runs of graphs that another thread can stop early; they then raise."""

    def __init__(self) -> None:
        self.options = onnxruntime.RunOptions()

    def end(self) -> None:
        """Make the graph stop before its next operator."""
        self.options.terminate = True


def load_graph(path: Path, *, device: Device = "auto", threads: int = 0) -> Any:
    """Return ONNX Runtime's session of a graph. Raises `BundleError` when there can be none."""
    try:
        return onnxruntime.InferenceSession(path, sess_options=session_options(threads), providers=providers(device))
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise BundleError(
            f"{path} cannot be loaded by ONNX Runtime ({reason_of(error)}); export the bundle again"
        ) from None


def open_session(path: Path, input: Input, classes: int, *, device: Device = "auto", threads: int = 0) -> PointSession:
    """Load a graph on `device`; "auto" is CUDA where the session really gets it, else the CPU.

    `threads` is the number of CPU threads within an operator; 0 leaves it to ONNX Runtime (all cores of the host).
    Raises `BundleError` when the graph cannot be loaded, when its inputs and outputs are not those of the manifest, or
    when "cuda" was asked for and the session did not get it.
    """
    session = load_graph(path, device=device, threads=threads)
    point = checked_session(session, input, device, path.name)
    _check_signature(session, path, input, classes)
    return point


def checked_session(session: Any, input: Input, device: Device, what: str) -> PointSession:
    """Return a session with the provider that it really uses.

    Raises `BundleError` when "cuda" was asked for and the session did not get it.
    """
    provider = session.get_providers()[0]
    if device == "cuda" and provider != CUDA:
        raise BundleError(
            f"CUDA was asked for and ONNX Runtime gave {provider} for {what}; "
            "check the NVIDIA driver and onnxruntime-gpu's CUDA and cuDNN libraries, or choose the device cpu"
        )
    return PointSession(session, provider, input.name)


def _check_signature(session: onnxruntime.InferenceSession, path: Path, input: Input, classes: int) -> None:
    inputs = {value.name: (value.type, value.shape) for value in session.get_inputs()}
    outputs = {value.name: value.shape for value in session.get_outputs()}
    element_type, shape = inputs.get(input.name, (None, []))
    fits = (
        list(inputs) == [input.name]
        and element_type == _ELEMENT_TYPES[input.dtype]
        and tuple(shape[1:]) == input.shape
        and not isinstance(shape[0], int)
        and "logits" in outputs
        and outputs["logits"][-1:] == [classes]
    )
    if not fits:
        raise BundleError(
            f"{path} is not the graph of its manifest: it takes {inputs} and gives {outputs}; expected the input "
            f"{input.name} ({input.dtype}, batch x {input.shape}) and logits of {classes} classes; export it again"
        )
