"""Every classifier of timm as `timm/NAME`, where timm is installed (the extra `timm`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from subspace_serve.errors import ArchitectureError
from subspace_serve.packages import is_installed
from subspace_serve.suggestions import did_you_mean

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

PREFIX = "timm/"
# Weights would be fetched, and a file must not ask for that; the rest is set here.
_RESERVED = frozenset({"pretrained", "pretrained_cfg", "checkpoint_path", "num_classes", "in_chans", "img_size"})


def find_builder(name: str) -> Callable[..., nn.Module] | None:
    """Return the builder of `timm/NAME`, or None for a name of another family.

    Raises:
        ArchitectureError: timm is not installed, or knows no such network, or no weights of it with such a tag.
    """
    if not name.startswith(PREFIX):
        return None
    if not is_installed("timm"):
        raise ArchitectureError(f"{name!r} is a network of timm, which is not installed: pip install timm")
    import timm

    wanted = name.removeprefix(PREFIX)
    if not timm.is_model(wanted.partition(".")[0]):
        hint = did_you_mean(wanted, timm.list_models(), 3) or "timm.list_models() names them"
        raise ArchitectureError(f"timm knows no {wanted!r}; {hint}")
    _settings(wanted)
    return partial(_build, wanted)


def recorded(name: str) -> tuple[Sequence[float], Sequence[float], int, Sequence[str]] | None:
    """Return mean, standard deviation, image side and labels of published weights, as timm's configuration has them.

    Raises:
        ArchitectureError: timm knows the network, and no weights of it with such a tag.
    """
    if not name.startswith(PREFIX) or not is_installed("timm"):
        return None
    from timm.data import ImageNetInfo, infer_imagenet_subset

    settings = _settings(name.removeprefix(PREFIX))
    if settings is None:
        return None
    subset = infer_imagenet_subset(settings.to_dict())
    labels = [str(label) for label in ImageNetInfo(subset).label_descriptions()] if subset else []
    return settings.mean, settings.std, settings.input_size[-1], labels


def _settings(wanted: str) -> PretrainedCfg | None:
    """Return timm's configuration of `NAME` or `NAME.TAG`; None where it has none.

    Raises:
        ArchitectureError: there are no weights with such a tag.
    """
    import timm

    try:
        return timm.get_pretrained_cfg(wanted)
    except RuntimeError:
        network, _, tag = wanted.partition(".")
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{network}.*")]
        raise ArchitectureError(
            f"timm knows no weights {tag!r} of {network!r}; it has {', '.join(tags) or 'none'}"
        ) from None


def _build(name: str, /, *, classes: int, channels: int, height: int, width: int, **arguments: Any) -> nn.Module:
    import timm

    if refused := sorted(_RESERVED.intersection(arguments)):
        raise ArchitectureError(
            f"{PREFIX + name!r} does not take {', '.join(refused)} as an argument; it starts from random weights, and "
            "the data set gives the classes, the channels and the image size."
        )
    settings = _settings(name)
    # Transformers are built for one size of images; convolutional networks take any and know no such argument.
    fixed: dict[str, Any] = {"img_size": (height, width)} if settings is not None and settings.fixed_input_size else {}
    return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **fixed, **arguments)
