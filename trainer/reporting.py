"""What a run reports: a line per epoch, TensorBoard events, and notes on settings that do not suit the data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from subspace_serve.data import DataSet
from subspace_serve.errors import SubspaceServeError, TrainingError
from subspace_serve.space.architecture import Architecture
from trainer.config import TrainingConfig
from trainer.initialise import initial_notes

_SMALL = 64
_FEW_STEPS = 300


def notes(config: TrainingConfig, data: DataSet, architecture: Architecture) -> list[str]:
    """Return what somebody should know who left settings at their defaults: an unfit network, a run too short.

    Also what was changed of the weights that it starts from.
    """
    found = [_unfit_network(architecture), _few_steps(config, len(data.train))]
    # Weights that cannot be read are nothing to remark on: a new run is refused for them, and one that is resumed may
    # need them no more.
    with contextlib.suppress(SubspaceServeError):
        found += initial_notes(architecture, config.initialisation, data.preprocessing)
    return [note for note in found if note is not None]


def _unfit_network(architecture: Architecture) -> str | None:
    """Return which network would suit the images better, if this one is of a known kind that does not suit them."""
    side, name = min(architecture.height, architecture.width), architecture.name
    if name.startswith("cresnet") and side > _SMALL:
        return (
            f"{name} is made for images of up to {_SMALL} px and sees small details only; for photographs of {side} "
            "take --arch resnet18 or mobilenet_v3_small, which are slower, or fewer pixels (--image-size 64)"
        )
    if name.startswith(("resnet", "mobilenet", "densenet", "efficientnet", "convnext")) and side < _SMALL:
        return f"{name} shrinks images 32 times, which leaves little of {side} pixels; cresnet20-32 is made for these"
    return None


def _few_steps(config: TrainingConfig, images: int) -> str | None:
    """Return a warning that a run has few steps, and what would give it more; None if it has enough."""
    batch_size = min(config.batch_size, images)
    steps = config.epochs * (images // batch_size)
    if steps >= _FEW_STEPS:
        return None
    epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    return (
        f"{images} training images in batches of {batch_size} make {steps} steps in {epochs}, which is "
        "little to learn from; smaller batches (--batch-size 16) or more --epochs make more"
    )


def summary_writer_class() -> Callable[[str], Any]:
    """Return TensorBoard's writer. Raises `TrainingError` where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError("TensorBoard's files need the package tensorboard: pip install tensorboard") from error
    return SummaryWriter


def write_summary(writer: Any, record: dict[str, Any]) -> None:
    """Write an epoch's metrics as TensorBoard scalars, except those on the validation images, which are nested."""
    for name, value in record.items():
        if isinstance(value, float):
            writer.add_scalar(f"train/{name}", value, record["epoch"])
    writer.flush()


def describe(record: dict[str, Any]) -> str:
    """Return an epoch's metrics as one line."""
    parts = [f"epoch {record['epoch']:>3}", f"loss {record['loss']:.4f}", f"accuracy {100 * record['accuracy']:.2f} %"]
    if record["endpoint_l2"] is not None:
        parts += [f"L2 {record['endpoint_l2']:.2f}", f"cos^2 {record['endpoint_cosine_squared']:.4f}"]
    parts.append(f"{record['seconds']:.1f} s")
    if "validation" in record:
        parts.append(f"validation accuracy {100 * record['validation']['accuracy']:.2f} %")
    return "  ".join(parts)
