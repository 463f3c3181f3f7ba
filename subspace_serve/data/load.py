"""Loading images to evaluate on or to recalibrate with, and parts of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from subspace_serve.data.images import Images
from subspace_serve.data.parts import check, one_part
from subspace_serve.data.sources import Options, Source
from subspace_serve.data.specification import read_source, split_of
from subspace_serve.data.views import resized, with_channels
from subspace_serve.errors import DataError
from subspace_serve.suggestions import listed


def load_part(
    spec: str,
    split: str,
    *,
    validation: float = 0.1,
    seed: int = 0,
    image_size: int | None = None,
    download: bool = False,
) -> tuple[Images, tuple[str, ...]]:
    """Load one part of a data set as `load_data` divides it, and its classes; the others may be missing.

    Args:
        split: `train`, `validation` or `test`.

    Raises:
        DataError: as `load_data`, or the set has no such part.
    """
    source = open_source(spec, Options(image_size=square(image_size), download=download))
    images = of_size(one_part(source, spec, split, validation, seed), image_size)
    return _not_empty(images, spec), source.label_names


def load_images(
    spec: str,
    *,
    height: int,
    width: int,
    channels: int,
    label_names: Sequence[str],
    validation: float = 0.1,
    seed: int = 0,
    resize: bool = False,
) -> Images:
    """Load one labelled set to evaluate a network on.

    Args:
        spec: a `.npz` file, a folder with one folder per class, or any data set with `:train`, `:validation`
            or `:test` behind it; or a set of corrupted images with type and severity, as in
            `cifar10-c:PATH:fog:3` (`cifar100-c`, `tiny-imagenet-c`, `imagenet-c`, `medmnist-c`, `corrupted` for
            what `subspace-serve corrupt` wrote, and `mnist-c:PATH:fog`, which has no severities).
        height, width, channels: what the network takes. Image files are always brought to that size, and grey images
            repeated for a network of three channels.
        label_names: the network's classes, in its order. The set's are matched to them by name, and labels that are
            numbers without names as `subspace_serve.data.sources.numbers.matched` says.
        validation, seed: how the run carved its validation images, so that the parts are the same ones.
        resize: bring images of a fixed other size to the network's, as image files are: cropped to its proportions
            around the centre, then scaled; otherwise they are refused.

    Raises:
        DataError: the set is missing or damaged, its images are of another size, its labels are not the
            network's, or it has several splits and none is named.
    """
    names = tuple(label_names)
    data_set, split = split_of(spec)
    source = open_source(data_set, Options(image_size=(height, width), channels=channels, label_names=names))
    if not set(source.label_names) <= set(names):
        raise DataError(
            f"{spec} has other classes than the network: {listed(source.label_names)} instead of {listed(names)}; "
            "give data with the network's classes"
        )
    images = one_part(source, spec, split, validation, seed)
    if source.label_names != names:
        places = np.array([names.index(name) for name in source.label_names], np.int64)
        images = images.with_labels(places[images.labels])
    return _fitted(images, spec, (height, width, channels), resize)


def load_unlabelled(
    spec: str,
    *,
    height: int,
    width: int,
    channels: int,
    validation: float = 0.1,
    seed: int = 0,
    resize: bool = False,
) -> Images:
    """Load images whose labels nobody will look at, such as those that recalibrate a network.

    Args:
        spec: what `load_images` takes, whatever its classes; or images without labels (which are then 0): a folder
            of image files, or a `.npz` file with `images` alone.
        height, width, channels, validation, seed, resize: as for `load_images`.

    Raises:
        DataError: the set is missing or damaged, its images are of another size, or it has several splits and none
            is named.
    """
    data_set, split = split_of(spec)
    source = open_source(data_set, Options(image_size=(height, width), channels=channels, labelled=False))
    images = one_part(source, spec, split, validation, seed)
    return _fitted(images, spec, (height, width, channels), resize)


def open_source(spec: str, options: Options) -> Source:
    """Read a data set, as published, and check it."""
    if options.image_size is not None and min(options.image_size) < 1:
        raise DataError(f"the image size must be at least 1 pixel; found {min(options.image_size)}; give a larger one")
    source = read_source(spec, options)
    check(source, labelled=options.labelled)
    return source


def _fitted(images: Images, spec: str, shape: tuple[int, int, int], resize: bool) -> Images:
    """Return images of the shape that the network takes, resized only where that is asked for."""
    if resize:
        images = resized(images, *shape[:2])
    if images.shape[2] == 1:
        images = with_channels(images, shape[2])
    if images.shape != shape:
        remedy = "convert the images" if images.shape[2] != shape[2] else "--resize brings them to that size"
        raise DataError(
            f"{spec} has images of height, width, channels {images.shape}; the network takes {shape}; {remedy}"
        )
    return _not_empty(images, spec)


def _not_empty(images: Images, spec: str) -> Images:
    if len(images) == 0:
        raise DataError(f"{spec} is empty; found no images; give a set that has some")
    return images


def square(side: int | None) -> tuple[int, int] | None:
    """Return height and width of a square, where its side is given."""
    return None if side is None else (side, side)


def of_size(images: Images, size: int | None) -> Images:
    """Return images at a size; at their own when it is None."""
    return images if size is None else resized(images, size, size)
