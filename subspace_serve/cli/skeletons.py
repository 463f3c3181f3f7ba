"""What torch adds to a run where it is installed: a skeleton, if an old run lacks it, and answers to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from subspace_serve.cli.output import say_note
from subspace_serve.packages import is_installed
from subspace_serve.run.opened import OpenRun

if TYPE_CHECKING:
    from subspace_serve.export import Origin
    from subspace_serve.export.parity import Reference


def open_run(run: Path, **options: Any) -> OpenRun:
    """Open the run that a command names, with its skeleton, and print its note, if any.

    Args:
        run: its folder or checkpoint.
        options: those of `run_options`.

    Raises:
        ExportError, ArchitectureError: as `with_skeleton`.
    """
    opened = with_skeleton(OpenRun(run, **options))
    say_note(opened.note)
    return opened


def with_skeleton(opened: OpenRun) -> OpenRun:
    """Give a run its skeleton where it has none and torch is installed; return the run.

    Raises:
        ExportError: its network cannot be exported.
        ArchitectureError: its architecture is the user's own and was not named with --arch.
    """
    from subspace_serve.network.skeleton import FILE_NAME

    if opened.file.is_file() and not (opened.folder / FILE_NAME).exists() and is_installed("torch"):
        from trainer.architectures import check_trusted
        from trainer.proof import proven_skeleton
        from trainer.run_folder import RunFolder

        check_trusted(opened.subspace.architecture, opened.arch)
        RunFolder(opened.folder).write_skeleton(proven_skeleton(opened.subspace.architecture, opened.subspace.buffers))
    return opened


def origin_of(opened: OpenRun) -> Origin:
    """Return what `export_bundle` needs of a run.

    Raises:
        CheckpointError: the answers that training left are damaged.
        ExportError: the skeleton gives other answers than training left.
    """
    from subspace_serve.export import Origin

    return Origin(
        opened.subspace,
        opened.network,
        opened.preprocessing,
        opened.labels,
        opened.checkpoint_sha256,
        examples=opened.examples,
        reference=_reference_of(opened),
        checkpoint=opened.file,
    )


def _reference_of(opened: OpenRun) -> Reference:
    """Return what a run's exported graphs are compared with.

    That is torch, where it is installed and may build the network: the user's own architecture has to be named.
    """
    from subspace_serve.export.golden import check_golden
    from subspace_serve.export.parity import Reference

    architecture = opened.subspace.architecture
    if is_installed("torch") and (not architecture.is_custom or architecture.name == opened.arch):
        from trainer.golden import torch_logits

        skeleton = opened.network.skeleton
        return Reference(
            "torch", torch_logits(opened.subspace, skeleton, opened.preprocessing, architecture=opened.arch)
        )
    return Reference("training" if check_golden(opened.folder, opened.network) else "skeleton")
