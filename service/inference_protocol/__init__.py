"""The Open Inference Protocol, version 2 (KServe, Triton), with its binary tensor data extension."""

from __future__ import annotations
