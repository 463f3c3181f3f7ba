"""Runs of an earlier version, which have no skeleton yet."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subspace_serve.run.opened import OpenRun


def with_skeleton(opened: OpenRun) -> OpenRun:
    """Give a run its skeleton where it has none and torch is installed; return the run.

    Raises:
        ExportError: its network cannot be exported.
    """
    from subspace_serve.network.skeleton import FILE_NAME

    if not (opened.folder / FILE_NAME).exists() and importlib.util.find_spec("torch") is not None:
        from trainer.proof import proven_skeleton
        from trainer.run_folder import RunFolder

        RunFolder(opened.folder).write_skeleton(proven_skeleton(opened.subspace.architecture))
    return opened
