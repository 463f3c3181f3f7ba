"""Labels that are numbers without names: which classes they mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from subspace_serve.data.array import MemoryImages
from subspace_serve.data.sources.source import Options
from subspace_serve.errors import DataError
from subspace_serve.suggestions import listed

MOST_CLASSES = 1 << 16
"""More classes than this that also outnumber the images are taken for wrong labels."""

_NUMBER = re.compile(r"[0-9]{1,18}")
_REMEDY = "name the classes in the order of the labels, as a list of texts `label_names` in the file"


def numbered(
    splits: Mapping[str, MemoryImages], options: Options, where: object
) -> tuple[tuple[str, ...], dict[str, MemoryImages]]:
    """Return the classes of images whose labels are numbers without names, and the images labelled by these classes.

    Where `options` names a network's classes, labels are matched to them: see `matched`. Otherwise the numbers are the
    names.

    Raises:
        DataError: the numbers cannot be those of classes.
    """
    if not options.labelled:
        return ("unlabelled",), dict(splits)
    if options.label_names is None:
        largest = max(int(images.labels.max()) if len(images) else -1 for images in splits.values())
        check_class_count(largest + 1, splits, f"{where} has labels up to {largest}")
        return tuple(str(label) for label in range(largest + 1)), dict(splits)
    names = options.label_names
    return names, {split: images.with_labels(matched(images.labels, names, where)) for split, images in splits.items()}


def matched(labels: np.ndarray, names: Sequence[str], where: object) -> np.ndarray:
    """Return which of the classes `names` each label means, as an index.

    Where all names are numbers, a label is a name, whatever the order: folders 0 to 10 are sorted 0, 1, 10, 2.
    Otherwise a label is the index of a class, unless numbers in the names may say otherwise.

    Raises:
        DataError: a label is none of the names, or may mean one class by name and another by index.
    """
    present, inverse = np.unique(labels, return_inverse=True)
    numbers = _numbers_in(names)
    if len(numbers) == len(names) and all(_NUMBER.fullmatch(name) for name in names):
        unknown = [str(label) for label in present.tolist() if label not in numbers]
        if unknown:
            raise DataError(
                f"{where} has the labels {listed(unknown)}, which are none of the network's classes {listed(names)}; "
                f"label the images with these numbers, or {_REMEDY}"
            )
        return np.array([numbers[label] for label in present.tolist()], np.int64)[inverse.reshape(labels.shape)]
    if _contradicts_counting(names) or _may_be_names(present.tolist(), numbers, len(names)):
        raise DataError(
            f"{where} has numbers for labels, and the network's classes have other numbers in their names: "
            f"{listed(names, 10)}; so it is unknown which class a label means: {_REMEDY}"
        )
    return labels


def check_class_count(count: int, splits: Mapping[str, MemoryImages], found: str) -> None:
    """Refuse more classes than the images could have, before anything is allocated for each of them.

    Raises:
        DataError: there are too many; `found` begins the message.
    """
    images = sum(map(len, splits.values()))
    if count > max(images, MOST_CLASSES):
        raise DataError(f"{found}, which are {count} classes for {images} images; number the classes 0, 1, 2, ...")


def _numbers_in(names: Sequence[str]) -> dict[int, int]:
    """Return the index of each class by the number in its name, where the name has exactly one."""
    found = ((place, _NUMBER.findall(name)) for place, name in enumerate(names))
    return {int(numbers[0]): place for place, numbers in found if len(numbers) == 1}


def _contradicts_counting(names: Sequence[str]) -> bool:
    """Return whether a name is a number other than its index, or the order is alphabetical (a1, a10, a2)."""
    if any(_NUMBER.fullmatch(name) and int(name) != place for place, name in enumerate(names)):
        return True
    return list(names) == sorted(names) and list(names) != sorted(names, key=_by_number)


def _may_be_names(labels: Sequence[int], numbers: Mapping[int, int], count: int) -> bool:
    """Return whether all labels can be read both as numbers in names and as indices, and the two differ."""
    both = all(label in numbers and label < count for label in labels)
    return both and any(numbers[label] != label for label in labels)


def _by_number(name: str) -> list[tuple[str, int]]:
    return [(text, int(digits or 0)) for text, digits in re.findall(r"([^0-9]*)([0-9]{0,18})", name)]
