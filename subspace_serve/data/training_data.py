"""Loading a data set for training, divided into three parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from subspace_serve.data.dataset import DataSet
from subspace_serve.data.file_check import Track, check_files, leave_out, refuse_unreadable, untracked
from subspace_serve.data.images import Images
from subspace_serve.data.load import of_size, open_source, square
from subspace_serve.data.parts import check, divided
from subspace_serve.data.preprocessing import Preprocessing, measure_preprocessing
from subspace_serve.data.sharing import copied_files
from subspace_serve.data.sources import Options, Source
from subspace_serve.data.specification import trains_nothing
from subspace_serve.data.views import with_channels
from subspace_serve.errors import DataError
from subspace_serve.suggestions import listed


def load_data(
    spec: str,
    *,
    validation: float = 0.1,
    seed: int = 0,
    image_size: int | None = None,
    channels: int | None = None,
    decoded_size: int | None = None,
    left_out: Mapping[str, Sequence[str]] | None = None,
    download: bool = False,
) -> DataSet:
    """Load a data set and divide it into training, validation and test images.

    A set that publishes validation or test images keeps them. Otherwise a fifth of the training images are
    set aside for the test (the same ones always), then the validation images are carved out of the rest; both
    class by class.

    Args:
        spec: `digits`, `mnist[:PATH]`, `fashion-mnist[:PATH]`, `cifar10[:PATH]`, `cifar100[:PATH]`,
            `tiny-imagenet:PATH`, `imagenet:PATH`, `mnist-c:PATH:TYPE`, `FILE.npz`, `folder:PATH` or the path of a
            folder.
        validation: fraction of the training images to carve out, in [0, 1); 0 leaves validation empty.
        seed: decides which images are for validation.
        image_size: pixels on a side, to which images of another size are cropped and scaled; None keeps the set's own.
        channels: of every image; grey images are repeated. None keeps the set's own.
        decoded_size: pixels on a side at which image files are decoded where `image_size` is None, as in an earlier
            run; None chooses what suits the files (`picture_size.fitting_side`).
        left_out: image files to leave out, by part, as `FileCheck.left_out` of an earlier run says.
        download: fetch CIFAR, MNIST or Fashion-MNIST where they are missing.

    Raises:
        DataError: the set is unknown, missing, damaged or empty, has a single class, a class has no training image, or
            an argument is out of range.
    """
    source = _training_source(spec, image_size or decoded_size, channels, download)
    return _divided(leave_out(source, left_out or {}), spec, validation, seed, image_size, channels)


def load_checked(
    spec: str,
    *,
    validation: float = 0.1,
    seed: int = 0,
    image_size: int | None = None,
    channels: int | None = None,
    decoded_size: int | None = None,
    skip_unreadable: bool = False,
    download: bool = False,
    track: Track = untracked,
) -> DataSet:
    """Load a data set as `load_data` does, after decoding every image file once.

    Args:
        skip_unreadable: leave out files that cannot be read, and say so in `DataSet.files`, instead of raising.
        track: shows the progress of the check.

    Raises:
        DataError: as `load_data`; or files cannot be read, of which the message names the first ten.
    """
    source = _training_source(spec, image_size or decoded_size, channels, download)
    files = check_files(source, track)
    if not skip_unreadable:
        refuse_unreadable(files, source)
    data = _divided(leave_out(source, files.left_out), spec, validation, seed, image_size, channels)
    copies = {"validation": copied_files(data.validation, data.train), "test": copied_files(data.test, data.train)}
    return replace(data, files=replace(files, copies=copies))


def _training_source(spec: str, size: int | None, channels: int | None, download: bool) -> Source:
    """Read a data set that can be trained on."""
    if trains_nothing(spec):
        raise DataError(
            f"{spec} has no training images; found only corrupted test images; train on the clean data set and "
            "evaluate on these"
        )
    options = Options(image_size=square(size), download=download)
    return open_source(spec, options if channels is None else replace(options, channels=channels))


def _divided(
    source: Source, spec: str, validation: float, seed: int, image_size: int | None, channels: int | None
) -> DataSet:
    """Divide a source into three parts with one image size and number of channels."""
    check(source)
    if len(source.label_names) == 1:
        raise DataError(
            f"{source.name} has a single class, {source.label_names[0]}, and there is nothing to tell it from; "
            "add images of others"
        )
    parts = {split: of_size(images, image_size) for split, images in divided(source, validation, seed).items()}
    if channels is not None:
        parts = {split: with_channels(images, channels) for split, images in parts.items()}
    _check_every_class(parts["train"], source)
    if len(parts["test"]) == 0:
        raise DataError(
            f"{source.name} has no class with two images, so none can be set aside for the test; add images"
        )
    return DataSet(
        name=source.name,
        spec=spec,
        label_names=source.label_names,
        preprocessing=_preprocessing(source, parts["train"]),
        augmentation=source.augmentation,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        fingerprint=_fingerprint(source),
        validation_seed=seed if source.validation is None else None,
        validation_count=len(parts["validation"]),
        test_carved=source.test is None,
        left_aside=source.left_aside,
    )


def _preprocessing(source: Source, train: Images) -> Preprocessing:
    """Return a set's published normalisation, for as many channels as its images have here, or else measure it."""
    if source.preprocessing is None:
        return measure_preprocessing(train.take(np.arange(len(train)))[0])
    return source.preprocessing.of_channels(train.shape[2])


def _check_every_class(train: Images, source: Source) -> None:
    counts = np.bincount(train.labels, minlength=len(source.label_names)).tolist()
    absent = [name for name, count in zip(source.label_names, counts, strict=True) if count == 0]
    if absent:
        raise DataError(f"{source.name} has classes without a training image: {listed(absent)}; add images of them")


def _fingerprint(source: Source) -> str:
    digest = hashlib.sha256(repr(source.label_names).encode())
    for split, images in source.splits.items():
        digest.update(f"{split}:{images.fingerprint()}".encode())
    return digest.hexdigest()
