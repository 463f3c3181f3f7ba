"""How this program uses ONNX Runtime: devices, providers and the options of every session."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from typing import Any, Literal, cast, get_args

from subspace_serve.cores import available_cores
from subspace_serve.errors import BundleError

# Official builds send telemetry unless they are told not to before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

Device = Literal["auto", "cpu", "cuda"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
_ERRORS_ONLY = 3
# TF32 would break the parity that export promised; an exhaustive search would run again for every batch size.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_NVIDIA_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")
_IDENTITY = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""The smallest graph: one number in, the same number out."""


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return the options of every session; `threads` within an operator, 0 for all cores of the host."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Every session has its own thread pool: idle threads that spin would take the cores from the session at work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def known_device(name: str) -> Device:
    """Check a device's name and return it.

    Raises:
        BundleError: it is none of `auto`, `cpu` and `cuda`, or it is `cuda` and no CUDA device is available.
    """
    if name not in get_args(Device):
        raise BundleError(f"unknown device {name!r}; choose auto, cpu or cuda (CUDA_VISIBLE_DEVICES says which one)")
    device = cast(Device, name)
    if device == "cuda" and providers(device) == [CPU]:
        raise BundleError(
            "CUDA was asked for and ONNX Runtime finds no CUDA device that works here; check the NVIDIA driver and "
            "onnxruntime-gpu's CUDA and cuDNN libraries, or choose auto or cpu"
        )
    return device


def providers(device: Device) -> list[Any]:
    """List the providers to ask for; CUDA only where sessions get it, since a failed attempt prints errors."""
    built_with_cuda = CUDA in onnxruntime.get_available_providers()
    has_device = any(os.path.exists(path) for path in _NVIDIA_DEVICES)
    if device == "cpu" or not (built_with_cuda and has_device and _gets_cuda()):
        return [CPU]
    return [(CUDA, _CUDA_OPTIONS), CPU]


@lru_cache
def _gets_cuda() -> bool:
    """Return whether a session that asks for CUDA gets it: a device without its libraries leaves it the CPU."""
    with redirect_stdout(sys.stderr):  # ONNX Runtime prints what it could not load; a report may be on standard output
        onnxruntime.preload_dlls()
        session = onnxruntime.InferenceSession(
            _IDENTITY, sess_options=session_options(1), providers=[(CUDA, _CUDA_OPTIONS), CPU]
        )
    return bool(session.get_providers()[0] == CUDA)


def cores() -> int:
    """Return how many CPU cores to use: OMP_NUM_THREADS where it is set, else all that there are for this process."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return int(limit) if limit.isdecimal() and int(limit) else available_cores()


@contextmanager
def several_at_once(workers: int) -> Iterator[Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]]:
    """Yield a `map` that runs its calls on `workers` threads; with one, the built-in."""
    if workers <= 1:
        yield map
        return
    with ThreadPoolExecutor(workers) as pool:
        yield pool.map
