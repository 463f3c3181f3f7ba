"""Bundles as model repositories of the Triton Inference Server. Needs the package onnx, no torch."""

from __future__ import annotations

from subspace_serve.deploy.triton.repository import MAX_BATCH_SIZE, check_target, write_triton_repository

__all__ = ["MAX_BATCH_SIZE", "check_target", "write_triton_repository"]
