"""Subspaces of networks that were never trained, as runs and in bundles, for tests that need none that is accurate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from subspace_serve.export import BundlePlan, Origin, export_bundle
from subspace_serve.files import sha256_of
from subspace_serve.network.calibration_data import draw_calibration_data
from subspace_serve.network.network import Network
from subspace_serve.network.served import InputType
from subspace_serve.run.opened import OpenRun
from subspace_serve.space.alpha import parse_alphas
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.checkpoint import load_subspace, save_subspace
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace
from trainer.architectures import build
from trainer.modules import weights_of
from trainer.proof import proven_skeleton

DIGITS = Architecture("cresnet8-4", classes=10, channels=1, height=8, width=8)


def untrained(geometry: Geometry, architecture: Architecture = DIGITS, **provenance: Any) -> Subspace:
    """Return a subspace of random endpoints, the same ones each time."""
    torch.manual_seed(0)
    endpoints = tuple(weights_of(build(architecture)) for _ in range(geometry.endpoints))
    return Subspace(geometry, architecture, endpoints, provenance)


def untrained_like(line_run: Path, geometry: Geometry, *use: str) -> Subspace:
    """Return an untrained subspace with the record of a trained line, but of this use, or of none."""
    trained = load_subspace(line_run)
    provenance = {key: value for key, value in trained.provenance.items() if key != "use"}
    return untrained(geometry, trained.architecture, **provenance | ({"use": list(use)} if use else {}))


def save_untrained(line_run: Path, folder: Path, geometry: Geometry, *use: str) -> Path:
    """Write a run of untrained networks, which the commands take like any other."""
    shutil.copytree(line_run, folder)
    save_subspace(untrained_like(line_run, geometry, *use), folder)
    return folder


def exported(geometry: Geometry, line_run: Path, folder: Path, input_type: InputType = "uint8") -> tuple[Path, Network]:
    """Export an untrained subspace with its midpoint, on a trained line's data; return the bundle and its network."""
    run = OpenRun(line_run)
    subspace = untrained(geometry)
    checkpoint = save_subspace(subspace, folder / "subspace.safetensors")
    network = Network.of(subspace, proven_skeleton(DIGITS), run.preprocessing, device="cpu")
    calibration = draw_calibration_data(run.data.train, run.preprocessing, name="digits", count=256)
    request = parse_alphas(["midpoint"], geometry, {})
    bundle = export_bundle(
        Origin(
            subspace,
            network,
            run.preprocessing,
            run.labels,
            sha256_of(checkpoint),
            run.data.test,
            checkpoint=checkpoint,
        ),
        BundlePlan.of(request, {"midpoint": calibration}, input_type=input_type, subspace=calibration),
        folder / "bundle",
    )
    return bundle, network
