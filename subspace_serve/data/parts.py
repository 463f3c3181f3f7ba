"""Dividing a data set into training, validation and test images, and checking it."""

from __future__ import annotations

from subspace_serve.data.drawing import carve
from subspace_serve.data.images import Images
from subspace_serve.data.sources import Source
from subspace_serve.errors import DataError
from subspace_serve.suggestions import listed

TEST_FRACTION = 0.2
# The test images stay the same whatever seed carves the validation images: no run may have trained on them.
TEST_SEED = 0


def one_part(source: Source, spec: str, split: str | None, validation: float, seed: int) -> Images:
    """Return the split asked for, or the only one that there is.

    Raises:
        DataError: there are several and none is asked for, or the one asked for is not there.
    """
    split = split or source.default
    if split is not None and split != "train" and split in source.splits:
        return source.splits[split]
    if split is not None:
        return divided(source, validation, seed)[split]
    if len(source.splits) > 1:
        raise DataError(f"{spec} has the splits {', '.join(source.splits)}; say which one, as in {spec}:test")
    return next(iter(source.splits.values()))


def divided(source: Source, validation: float, seed: int) -> dict[str, Images]:
    """Return the three parts: the published ones, and parts carved from the training images for those missing.

    Raises:
        DataError: there are no training images, or `validation` is no fraction of them.
    """
    if not 0 <= validation < 1:
        raise DataError(f"validation is a fraction of the training images; found {validation}; give one in [0, 1)")
    train, held_out, test = source.train, source.validation, source.test
    if train is None:
        raise DataError(
            f"{source.name} has no training images; found only {', '.join(source.splits)}; "
            "use that part, or a set with training images"
        )
    if test is None:
        train, test = _carved(train, TEST_FRACTION, TEST_SEED)
    if held_out is None:
        train, held_out = _carved(train, validation, seed)
    return {"train": train, "validation": held_out, "test": test}


def check(source: Source, *, labelled: bool = True) -> None:
    """Refuse class names that are not text, and splits that are empty, differ in image size, or have unknown labels.

    Raises:
        DataError: it says what is wrong with which split.
    """
    garbled = [ascii(name) for name in source.label_names if not _is_text(name)]
    if garbled:
        raise DataError(
            f"{source.name} has classes whose names are no text in UTF-8: {listed(garbled)}; rename them, or where "
            "they are in UTF-8 tell the system so (LC_ALL=C.UTF-8)"
        )
    for split, images in source.splits.items():
        if len(images) == 0:
            raise DataError(f"{source.name} is empty; found no {split} images; give a set that has some")
        largest = int(images.labels.max())
        if labelled and largest >= len(source.label_names):
            raise DataError(
                f"{source.name} has {len(source.label_names)} classes, numbered from 0; found the {split} label "
                f"{largest}; correct the labels"
            )
    shapes = {images.shape for images in source.splits.values()}
    if len(shapes) > 1:
        raise DataError(f"{source.name} has splits of different image sizes; found {sorted(shapes)}; make them equal")


def _is_text(name: str) -> bool:
    """Return whether a name can be encoded: bytes that are not UTF-8 are read as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _carved(images: Images, fraction: float, seed: int) -> tuple[Images, Images]:
    rest, part = carve(images.labels, round(fraction * len(images)), seed)
    return images.subset(rest), images.subset(part)
