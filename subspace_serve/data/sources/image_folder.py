"""Folders of image files: one folder per class, ImageNet, and Tiny-ImageNet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.folder import FolderImages
from subspace_serve.data.picture_size import PHOTOGRAPH, SMALL, fitting_side, typical_sizes
from subspace_serve.data.preprocessing import Preprocessing
from subspace_serve.data.sources.folder_parts import class_folders, find_parts
from subspace_serve.data.sources.listing import ENDINGS, Listing, folders_in, has_images
from subspace_serve.data.sources.source import Options, Source, need_path
from subspace_serve.errors import DataError
from subspace_serve.suggestions import did_you_mean, listed

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
TINY_IMAGENET = Preprocessing(mean=(0.4802, 0.4481, 0.3975), std=(0.2770, 0.2691, 0.2821))
IMAGENET_SIZE = 224
TINY_IMAGENET_SIZE = 64
_ANNOTATION_FIELDS = 2


def read_folder(path: Path | None, options: Options) -> Source:
    """Read a folder with one folder per class, or with `train`, `val` and `test` folders of that kind (`find_parts`).

    Where labels are not needed, images may also lie directly in any of these folders. Where no size is given, files are
    decoded at the side that suits them (`picture_size.fitting_side`), or at 224 pixels where the classes are given.
    Small files are augmented by shifts instead of random areas, which would leave little of them.
    """
    root = need_path("folder", path)
    folders, beside = find_parts(root, options.label_names or ())
    size = options.image_size or (PHOTOGRAPH, PHOTOGRAPH)
    listing = Listing()
    if not options.labelled and any(map(has_images, folders.values())):
        label_names: tuple[str, ...] = ("unlabelled",)
        splits = {split: _unlabelled_files(folder, size, options, listing) for split, folder in folders.items()}
    else:
        first = folders.get("train") or next(iter(folders.values()))
        label_names = options.label_names or class_folders(first)
        need_every = options.labelled and options.label_names is None
        splits = {
            split: labelled_files(
                folder, label_names, size, options, need_every=need_every, nested=not options.labelled, listing=listing
            )
            for split, folder in folders.items()
        }
    side = fitting_side(typical_sizes(list(splits.values()))) if options.label_names is None else min(size)
    if options.image_size is None:
        size = (side, side)
        splits = {split: files.at_size(size) for split, files in splits.items()}
    shifted = Augmentation(padding=min(size) // 8, flip=True)
    return Source(
        name=root.resolve().name,
        label_names=label_names,
        augmentation=shifted if side <= SMALL else Augmentation(flip=True, resized_crop=True),
        preprocessing=IMAGENET,
        train=splits.get("train"),
        validation=splits.get("validation"),
        test=splits.get("test"),
        left_aside=beside,
    )


def read_imagenet(path: Path | None, options: Options) -> Source:
    """Read ImageNet: `train/<wnid>` and `val/<wnid>`. Its published validation images are the test set."""
    root = need_path("imagenet", path)
    label_names = class_folders(_folder(root, "train"))
    size = options.image_size or (IMAGENET_SIZE, IMAGENET_SIZE)
    listing = Listing()
    train, test = (
        labelled_files(_folder(root, split), label_names, size, options, listing=listing) for split in ("train", "val")
    )
    return Source(
        name="imagenet",
        label_names=label_names,
        augmentation=Augmentation(flip=True, resized_crop=True),
        preprocessing=IMAGENET,
        train=train,
        test=test,
    )


def read_tiny_imagenet(path: Path | None, options: Options) -> Source:
    """Read Tiny-ImageNet: `train/<wnid>/images`, and `val` as the test set, since the real one has no labels."""
    root = need_path("tiny-imagenet", path)
    label_names = class_folders(_folder(root, "train"))
    size = options.image_size or (TINY_IMAGENET_SIZE, TINY_IMAGENET_SIZE)
    return Source(
        name="tiny-imagenet",
        label_names=label_names,
        augmentation=Augmentation(padding=min(size) // 16, flip=True),
        preprocessing=TINY_IMAGENET,
        train=labelled_files(_folder(root, "train"), label_names, size, options),
        test=_annotated_files(_folder(root, "val"), label_names, size, options),
    )


def _folder(root: Path, name: str) -> Path:
    if not (root / name).is_dir():
        found = ", ".join(sorted(entry.name for entry in root.iterdir())[:5]) or "nothing"
        raise DataError(f"{root} has no folder {name}; found {found}; give the folder that holds train and val")
    return root / name


def _unlabelled_files(folder: Path, size: tuple[int, int], options: Options, listing: Listing) -> FolderImages:
    """List all images below a folder, labelled 0."""
    files = [os.path.relpath(file, folder) for file in listing.images_below(folder)]
    labels = np.zeros(len(files), np.int64)
    return FolderImages(folder, files, labels, size=size, channels=options.channels)


def labelled_files(
    folder: Path,
    label_names: Sequence[str],
    size: tuple[int, int],
    options: Options,
    *,
    need_every: bool = True,
    nested: bool = True,
    cropped: bool = False,
    listing: Listing | None = None,
) -> FolderImages:
    """List the images of each class's folder, in the order of the classes' names and then of their files'.

    Args:
        need_every: refuse a class without images.
        nested: a class's images may all lie in folders inside its folder; otherwise this is refused, since the inner
            folders are most likely the classes.
        cropped: as for `FolderImages`.
        listing: the one used for the data set's other parts, which must share no file with this one.

    Raises:
        DataError: a folder is none of the classes, a class has no images (where every one is needed), no class has any,
            or an image is listed for another class or part.
    """
    listing = listing or Listing()
    for found in class_folders(folder):
        if found not in label_names:
            raise DataError(
                f"{folder} has a folder {found}, which is none of the classes; {_hint(folder, found, label_names)}"
            )
    known = f"known file types are {', '.join(ENDINGS)}"
    # Sorted by name, whatever the order of the classes: recorded fingerprints depend on it.
    images = {name: listing.images_below(folder / name) for name in sorted(label_names) if (folder / name).is_dir()}
    empty = [name for name in sorted(label_names) if not images.get(name)]
    if empty and need_every:
        raise DataError(f"{folder} has classes without images: found none of {', '.join(empty)}; {known}")
    if len(empty) == len(label_names):
        raise DataError(f"{folder} holds no images; {known}")
    if not nested:
        _refuse_only_folders(folder, images)
    files = [os.path.relpath(file, folder) for files in images.values() for file in files]
    labels = np.repeat([label_names.index(name) for name in images], [len(files) for files in images.values()])
    return FolderImages(folder, files, labels, size=size, channels=options.channels, cropped=cropped)


def _hint(folder: Path, found: str, label_names: Sequence[str]) -> str:
    """Return what to do about a folder that is none of the classes."""
    if not set(label_names).isdisjoint(folders_in(folder / found)):
        return f"the classes lie in {folder / found}: give that folder"
    return did_you_mean(found, label_names) or "take it away or train with it"


def _refuse_only_folders(folder: Path, images: Mapping[str, Sequence[str]]) -> None:
    """Refuse classes whose images all lie in inner folders: those are most likely the classes."""
    deeper = [name for name, files in images.items() if files and str(folder / name) not in map(os.path.dirname, files)]
    if deeper:
        inside = folders_in(folder / deeper[0])
        raise DataError(
            f"{folder} has folders that hold no images, only folders: {listed(deeper)} (with {listed(inside)}); give "
            "the folder in which the classes are, or move each class's images into its own folder"
        )


def _annotated_files(folder: Path, label_names: Sequence[str], size: tuple[int, int], options: Options) -> FolderImages:
    """List the images of `val_annotations.txt`, whose lines hold a file, its class and a box, separated by tabs."""
    annotations = folder / "val_annotations.txt"
    if not annotations.is_file():
        return labelled_files(folder, label_names, size, options)
    indices = {name: index for index, name in enumerate(label_names)}
    files, labels = [], []
    try:
        lines = annotations.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{annotations} cannot be read as text in UTF-8 ({error}); get the file again") from error
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if len(fields) < _ANNOTATION_FIELDS or fields[1] not in indices:
            raise DataError(
                f"line {number} of {annotations} must hold a file and its class; found {line!r}; get the file again"
            )
        files.append(os.path.join("images", fields[0]))
        labels.append(indices[fields[1]])
    return FolderImages(folder, files, np.array(labels, np.int64), size=size, channels=options.channels)
