"""Loading a data set for training, or one labelled set for evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from subspace_serve.data.dataset import DataSet
from subspace_serve.data.images import Images
from subspace_serve.data.parts import check, divided, listed, one_part
from subspace_serve.data.preprocessing import measure_preprocessing
from subspace_serve.data.sources import Options, Source
from subspace_serve.data.specification import read_source, split_of, trains_nothing
from subspace_serve.data.views import resized
from subspace_serve.errors import DataError


def load_data(
    spec: str,
    *,
    validation: float = 0.1,
    seed: int = 0,
    image_size: int | None = None,
    download: bool = False,
    workers: int | None = None,
) -> DataSet:
    """Load a data set and divide it into training, validation and test images.

    A set that publishes validation or test images keeps them. Otherwise a fifth of the training images are
    set aside for the test (the same ones always), then the validation images are carved out of the rest; both
    class by class.

    Args:
        spec: `digits`, `fashion-mnist[:PATH]`, `cifar10[:PATH]`, `cifar100[:PATH]`, `tiny-imagenet:PATH`,
            `imagenet:PATH`, `mnist-c:PATH:TYPE`, `FILE.npz`, `folder:PATH` or the path of a folder.
        validation: fraction of the training images to carve out, in [0, 1); 0 leaves validation empty.
        seed: decides which images validate.
        image_size: pixels on a side, to which images of another size are resized; None keeps the set's own.
        download: let torchvision fetch CIFAR or Fashion-MNIST where they are missing.
        workers: processes that decode image files; None chooses, 0 decodes in this process.

    Raises:
        DataError: the set is unknown, missing, damaged or empty, a class has no training image, or an
            argument is out of range.
    """
    if trains_nothing(spec):
        raise DataError(
            f"{spec} has no training images; found only corrupted test images; train on the clean data set and "
            "evaluate on these"
        )
    source = _source(spec, Options(image_size=image_size, download=download, workers=workers))
    parts = {split: _of_size(images, image_size) for split, images in divided(source, validation, seed).items()}
    _check_every_class(parts["train"], source)
    return DataSet(
        name=source.name,
        spec=spec,
        label_names=source.label_names,
        preprocessing=source.preprocessing or measure_preprocessing(_all_pixels(parts["train"])),
        augmentation=source.augmentation,
        **parts,
        fingerprint=_fingerprint(source),
        validation_seed=seed if source.validation is None else None,
        validation_count=len(parts["validation"]),
        test_carved=source.test is None,
    )


def load_part(
    spec: str,
    split: str,
    *,
    validation: float = 0.1,
    seed: int = 0,
    image_size: int | None = None,
    download: bool = False,
    workers: int | None = None,
) -> tuple[Images, tuple[str, ...]]:
    """Load one part of a data set as `load_data` divides it, and its classes; the others may be missing.

    Args:
        split: `train`, `validation` or `test`.

    Raises:
        DataError: as `load_data`, or the set has no such part.
    """
    source = _source(spec, Options(image_size=image_size, download=download, workers=workers))
    images = _of_size(one_part(source, spec, split, validation, seed), image_size)
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
    workers: int | None = None,
) -> Images:
    """Load one labelled set to evaluate a network on.

    Args:
        spec: a `.npz` file, a folder with one folder per class, or any data set with `:train`, `:validation`
            or `:test` behind it; or a set of corrupted images with type and severity, as in
            `cifar10-c:PATH:fog:3` (`cifar100-c`, `tiny-imagenet-c`, `imagenet-c`, `medmnist-c`, `corrupted` for
            what `subspace-serve corrupt` wrote, and `mnist-c:PATH:fog`, which has no severities).
        height, width, channels: what the network takes. Image files are always brought to that size.
        label_names: the network's classes, in its order. Folders are matched to them by name.
        validation, seed: how the run carved its validation images, so that the parts are the same ones.
        resize: bring images of a fixed other size to the network's, instead of refusing them.
        workers: processes that decode image files; None chooses, 0 decodes in this process.

    Raises:
        DataError: the set is missing or damaged, its images are of another size, its labels are not the
            network's, or it has several splits and none is named.
    """
    names = tuple(label_names)
    data_set, split = split_of(spec)
    source = _source(data_set, Options(image_size=height, channels=channels, label_names=names, workers=workers))
    if source.label_names != names:
        raise DataError(
            f"{spec} has other classes than the network: {listed(source.label_names)} instead of {listed(names)}; "
            "give data with the network's classes"
        )
    images = one_part(source, spec, split, validation, seed)
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
    workers: int | None = None,
) -> Images:
    """Load images whose labels nobody will look at, such as those that recalibrate a network.

    Args:
        spec: what `load_images` takes, whatever its classes; or images without labels (which are then 0): a folder
            of image files, or a `.npz` file with `images` alone.
        height, width, channels, validation, seed, resize, workers: as for `load_images`.

    Raises:
        DataError: the set is missing or damaged, its images are of another size, or it has several splits and none
            is named.
    """
    data_set, split = split_of(spec)
    source = _source(data_set, Options(image_size=height, channels=channels, labelled=False, workers=workers))
    images = one_part(source, spec, split, validation, seed)
    return _fitted(images, spec, (height, width, channels), resize)


def _source(spec: str, options: Options) -> Source:
    """Read a data set and check it."""
    if options.image_size is not None and options.image_size < 1:
        raise DataError(f"the image size must be at least 1 pixel; found {options.image_size}; give a larger one")
    source = read_source(spec, options)
    check(source, labelled=options.labelled)
    return source


def _fitted(images: Images, spec: str, shape: tuple[int, int, int], resize: bool) -> Images:
    """Return images of the shape that the network takes, resized only where that is asked for."""
    if resize:
        images = resized(images, *shape[:2])
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


def _check_every_class(train: Images, source: Source) -> None:
    counts = torch.bincount(train.labels, minlength=len(source.label_names)).tolist()
    absent = [name for name, count in zip(source.label_names, counts, strict=True) if count == 0]
    if absent:
        raise DataError(f"{source.name} has classes without a training image: {listed(absent)}; add images of them")


def _fingerprint(source: Source) -> str:
    digest = hashlib.sha256(repr(source.label_names).encode())
    for split, images in source.splits.items():
        digest.update(f"{split}:{images.fingerprint()}".encode())
    return digest.hexdigest()


def _of_size(images: Images, size: int | None) -> Images:
    return images if size is None else resized(images, size, size)


def _all_pixels(images: Images) -> torch.Tensor:
    return images.take(torch.arange(len(images)))[0]
