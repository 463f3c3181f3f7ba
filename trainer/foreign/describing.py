"""What foreign weights are for: classes, images and normalisation, from data, options or published records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from subspace_serve.data import DataSet, Preprocessing
from subspace_serve.data.training_data import load_data
from subspace_serve.errors import DataError
from subspace_serve.space.architecture import Architecture
from trainer.architectures import find_builder
from trainer.architectures.records import Record, record_of
from trainer.foreign.importing import Description

VALIDATION = 0.1
"""The fraction of training images that is set aside unless another is given, as `train` does."""


def describe(
    name: str,
    arguments: dict[str, Any],
    *,
    spec: str | None = None,
    validation: float | None = None,
    data_seed: int | None = None,
    image_size: int | None = None,
    download: bool = False,
    labels: Path | None = None,
    normalisation: str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    height: int | None = None,
    width: int | None = None,
    channels: int | None = None,
) -> Description:
    """Return what networks of an architecture take and answer.

    What is given as an option counts first, then what the data says, then what torchvision or timm records of the
    published weights of the architecture.

    Args:
        name, arguments: of the architecture.
        spec: a data set; `validation`, `data_seed`, `image_size` and `download` are for it alone, as `load_data` takes
            them; None divides it as `train` does by itself.
        labels: a file of the classes' names, a line each.
        normalisation: `data` or `published`; None for the data's, where there is some.
        mean, std: of pixels in [0, 1], one number a channel, or one for all.
        height, width, channels: of images.

    Raises:
        DataError: something is neither given nor known, two of them disagree, or one would be ignored.
        ArchitectureError: the architecture is unknown.
    """
    find_builder(name)
    record = record_of(name)
    if spec is None:
        _refuse_without_data(image_size, validation, data_seed, download)
    validation, data_seed = VALIDATION if validation is None else validation, data_seed or 0
    drawn = {"validation": validation, "data_seed": data_seed, "image_size": image_size, "channels": channels}
    data = None
    if spec is not None:
        if height is not None or width is not None:
            raise DataError("--height and --width are for weights without --data; --image-size resizes the data's")
        data = load_data(
            spec, validation=validation, seed=data_seed, image_size=image_size, channels=channels, download=download
        )
    side = None if record is None else record.side
    size = data.shape if data is not None else _size(height or side, width or height or side, channels or 3)
    names = _labels(labels, data, record)
    preprocessing, note = _normalisation(normalisation, mean, std, size[2], data, record)
    architecture = Architecture(name, len(names), size[2], size[0], size[1], arguments)
    return Description(architecture, names, preprocessing, data, drawn, note)


def _refuse_without_data(
    image_size: int | None, validation: float | None, data_seed: int | None, download: bool
) -> None:
    """Refuse what only a data set makes use of: it would be ignored without a word.

    Raises:
        DataError: one of them is given.
    """
    if image_size is not None:
        raise DataError("--image-size resizes --data's images; without it, --height and --width say the size")
    given = {"--validation": validation is not None, "--data-seed": data_seed is not None, "--download": download}
    unused = [option for option, is_given in given.items() if is_given]
    if unused:
        verb, it = ("is", "it") if len(unused) == 1 else ("are", "them")
        raise DataError(
            f"{' and '.join(unused)} {verb} for --data, and there is none; give --data SPEC, or leave {it} out"
        )


def _size(height: int | None, width: int | None, channels: int) -> tuple[int, int, int]:
    if height is None or width is None:
        raise DataError("the size of images is not known; give --data SPEC, or --height and --width")
    return height, width, channels


def _labels(file: Path | None, data: DataSet | None, record: Record | None) -> tuple[str, ...]:
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not UTF-8 ({error}); save the labels as UTF-8, a line each") from error
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice or not names:
            found = f"{twice!r} twice" if twice else "no label"
            raise DataError(f"{file} holds {found}; give each class a line of its own")
        if data is not None and set(names) != set(data.label_names):
            raise DataError(
                f"{file} names other classes than {data.spec}; give the data's own labels, or leave --labels out"
            )
        if data is not None and names != data.label_names:
            raise DataError(
                f"{file} has the classes of {data.spec} in another order; the networks' outputs would be mistaken for "
                "others: give data whose classes are in the networks' order"
            )
        return names
    if data is not None:
        return data.label_names
    if record is None or not record.labels:
        raise DataError("the classes' names are not known; give --data SPEC or --labels FILE, a line each")
    return _distinct(record.labels)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names that tell classes apart: two of ImageNet's are called alike, and get their number behind them."""
    return tuple(f"{name} ({index})" if names.count(name) > 1 else name for index, name in enumerate(names))


def _normalisation(
    chosen: str | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    channels: int,
    data: DataSet | None,
    record: Record | None,
) -> tuple[Preprocessing, str | None]:
    """Return the normalisation, and a note where it was guessed."""
    if (mean is None) != (std is None):
        raise DataError("--mean and --std are given together, one number a channel each")
    if mean is not None and std is not None:
        if chosen is not None:
            raise DataError(f"--mean and --std say the normalisation, and --normalisation {chosen} another; give one")
        if not all(0 <= number <= 1 for number in (*mean, *std)):
            raise DataError(
                f"--mean and --std are those of pixels in [0, 1]; found {mean} and {std}; divide by 255 those of "
                "pixels from 0 to 255"
            )
        found, note = Preprocessing(*(part * channels if len(part) == 1 else part for part in (mean, std))), None
    elif data is not None and chosen != "published":
        found, note = data.preprocessing, None
        if record is not None and len(record.preprocessing.mean) == channels:
            note = (
                f"images are normalised as {data.spec} is; networks that were fine-tuned from published weights often "
                "expect those weights' normalisation: --normalisation published"
            )
    elif record is not None and chosen != "data":
        found, note = record.preprocessing, None
    else:
        missing = {"data": ", since there is no data", "published": ", since none is recorded for the architecture"}
        raise DataError(f"the normalisation is not known{missing.get(chosen or '', '')}; give --mean and --std")
    if len(found.mean) != channels:
        raise DataError(
            f"the normalisation has {len(found.mean)} numbers and images have {channels} channels; give --mean and "
            "--std with one number a channel, or one for all"
        )
    return found, note
