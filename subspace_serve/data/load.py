"""Loading a data set for training, or one labelled set for evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from subspace_serve.data.dataset import DataSet
from subspace_serve.data.images import Images, MemoryImages
from subspace_serve.data.preprocessing import measure_preprocessing
from subspace_serve.data.sources import Options, Source
from subspace_serve.data.specification import read_source, split_of
from subspace_serve.data.splits import carve
from subspace_serve.errors import DataError

TEST_FRACTION = 0.2
# The test images stay the same whatever seed carves the validation images: no run may have trained on them.
TEST_SEED = 0


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
            `imagenet:PATH`, `FILE.npz`, `folder:PATH` or the path of a folder.
        validation: fraction of the training images to carve out, in [0, 1); 0 leaves validation empty.
        seed: decides which images validate.
        image_size: pixels on a side, to which images of another size are resized; None keeps the set's own.
        download: let torchvision fetch CIFAR or Fashion-MNIST where they are missing.
        workers: processes that decode image files; None chooses, 0 decodes in this process.

    Raises:
        DataError: the set is unknown, missing, damaged or empty, a class has no training image, or an
            argument is out of range.
    """
    if image_size is not None and image_size < 1:
        raise DataError(f"the image size must be at least 1 pixel; found {image_size}; give a larger one")
    source = read_source(spec, Options(image_size=image_size, download=download, workers=workers))
    _check(source)
    parts = {split: _resized(images, image_size) for split, images in _divided(source, validation, seed).items()}
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
            or `:test` behind it.
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
    source = read_source(data_set, Options(image_size=height, channels=channels, label_names=names, workers=workers))
    _check(source)
    if source.label_names != names:
        raise DataError(
            f"{spec} has other classes than the network: {_listed(source.label_names)} instead of {_listed(names)}; "
            "give data with the network's classes"
        )
    images = _split(source, spec, split, validation, seed)
    if resize and isinstance(images, MemoryImages):
        images = images.resized(height, width)
    if images.shape != (height, width, channels):
        raise DataError(
            f"{spec} has images of height, width, channels {images.shape}; the network takes "
            f"{(height, width, channels)}; convert the images"
        )
    if len(images) == 0:
        raise DataError(f"{spec} is empty; found no images; give a set that has some")
    return images


def _split(source: Source, spec: str, split: str | None, validation: float, seed: int) -> Images:
    """Return the split asked for, or the only one that there is."""
    if split is not None and split != "train" and split in source.splits:
        return source.splits[split]
    if split is not None:
        return _divided(source, validation, seed)[split]
    if len(source.splits) > 1:
        raise DataError(f"{spec} has the splits {', '.join(source.splits)}; say which one, as in {spec}:test")
    return next(iter(source.splits.values()))


def _divided(source: Source, validation: float, seed: int) -> dict[str, Images]:
    """Return the three parts: those published, and what is carved where there are none."""
    if not 0 <= validation < 1:
        raise DataError(f"validation is a fraction of the training images; found {validation}; give one in [0, 1)")
    train, held_out, test = source.train, source.validation, source.test
    if train is None:
        raise DataError(f"{source.name} has no training images; found only {', '.join(source.splits)}; add some")
    if test is None:
        train, test = _carved(train, TEST_FRACTION, TEST_SEED)
    if held_out is None:
        train, held_out = _carved(train, validation, seed)
    return {"train": train, "validation": held_out, "test": test}


def _carved(images: Images, fraction: float, seed: int) -> tuple[Images, Images]:
    rest, part = carve(images.labels, round(fraction * len(images)), seed)
    return images.subset(rest), images.subset(part)


def _check(source: Source) -> None:
    """Refuse splits that are empty, of several sizes, or labelled outside the classes."""
    for split, images in source.splits.items():
        if len(images) == 0:
            raise DataError(f"{source.name} is empty; found no {split} images; give a set that has some")
        largest = int(images.labels.max())
        if largest >= len(source.label_names):
            raise DataError(
                f"{source.name} has {len(source.label_names)} classes, numbered from 0; found the {split} label "
                f"{largest}; correct the labels"
            )
    shapes = {images.shape for images in source.splits.values()}
    if len(shapes) > 1:
        raise DataError(f"{source.name} has splits of different image sizes; found {sorted(shapes)}; make them equal")


def _check_every_class(train: Images, source: Source) -> None:
    counts = torch.bincount(train.labels, minlength=len(source.label_names)).tolist()
    absent = [name for name, count in zip(source.label_names, counts, strict=True) if count == 0]
    if absent:
        raise DataError(f"{source.name} has classes without a training image: {_listed(absent)}; add images of them")


def _fingerprint(source: Source) -> str:
    digest = hashlib.sha256(repr(source.label_names).encode())
    for split, images in source.splits.items():
        digest.update(f"{split}:{images.fingerprint()}".encode())
    return digest.hexdigest()


def _resized(images: Images, size: int | None) -> Images:
    return images.resized(size, size) if size is not None and isinstance(images, MemoryImages) else images


def _all_pixels(images: Images) -> torch.Tensor:
    return images.take(torch.arange(len(images)))[0]


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
