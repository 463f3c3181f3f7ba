"""Folders of image files: one folder per class, ImageNet, and Tiny-ImageNet."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.folder import FolderImages
from subspace_serve.data.picture_size import PHOTOGRAPH, SMALL, fitting_side, typical_sizes
from subspace_serve.data.preprocessing import Preprocessing
from subspace_serve.data.sources.source import Options, Source, need_path
from subspace_serve.errors import DataError

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
TINY_IMAGENET = Preprocessing(mean=(0.4802, 0.4481, 0.3975), std=(0.2770, 0.2691, 0.2821))
IMAGENET_SIZE = 224
TINY_IMAGENET_SIZE = 64
_SPLIT_FOLDERS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}
_ANNOTATION_FIELDS = 2
_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def read_folder(path: Path | None, options: Options) -> Source:
    """Read a folder with one folder per class, or with `train`, `val` and `test` folders of that kind.

    Where labels are not needed, the images may lie in any of these folders without one per class. Files that are
    trained on are decoded at the size that suits them (`picture_size.fitting_side`) where none is named, and small ones
    are varied by shifts instead of random areas, of which little would be left.
    """
    root = need_path("folder", path)
    folders = _split_folders(root)
    size = options.image_size or PHOTOGRAPH
    if not options.labelled and any(_images_in(folder) for folder in folders.values()):
        label_names: tuple[str, ...] = ("unlabelled",)
        splits = {split: _unlabelled_files(folder, size, options) for split, folder in folders.items()}
    else:
        label_names = options.label_names or class_folders(folders["train"])
        need_every = options.labelled and options.label_names is None
        splits = {
            split: labelled_files(folder, label_names, size, options, need_every=need_every)
            for split, folder in folders.items()
        }
    side = fitting_side(typical_sizes(list(splits.values()))) if options.label_names is None else size
    if options.image_size is None:
        size = side
        splits = {split: files.at_size(side) for split, files in splits.items()}
    shifted = Augmentation(padding=size // 8, flip=True)
    return Source(
        name=root.resolve().name,
        label_names=label_names,
        augmentation=shifted if side <= SMALL else Augmentation(flip=True, resized_crop=True),
        preprocessing=IMAGENET,
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
    )


def read_imagenet(path: Path | None, options: Options) -> Source:
    """Read ImageNet: `train/<wnid>` and `val/<wnid>`. Its published validation images are the test set."""
    root = need_path("imagenet", path)
    label_names = class_folders(_folder(root, "train"))
    size = options.image_size or IMAGENET_SIZE
    train, test = (labelled_files(_folder(root, split), label_names, size, options) for split in ("train", "val"))
    return Source(
        name="imagenet",
        label_names=label_names,
        augmentation=Augmentation(flip=True, resized_crop=True),
        preprocessing=IMAGENET,
        train=train,
        test=test,
    )


def read_tiny_imagenet(path: Path | None, options: Options) -> Source:
    """Read Tiny-ImageNet: `train/<wnid>/images` and `val`, the test set, since the real one has no labels."""
    root = need_path("tiny-imagenet", path)
    label_names = class_folders(_folder(root, "train"))
    size = options.image_size or TINY_IMAGENET_SIZE
    return Source(
        name="tiny-imagenet",
        label_names=label_names,
        augmentation=Augmentation(padding=size // 16, flip=True),
        preprocessing=TINY_IMAGENET,
        train=labelled_files(_folder(root, "train"), label_names, size, options),
        test=_annotated_files(_folder(root, "val"), label_names, size, options),
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split; everything is `train` when the folders are classes.

    A class may be called train (beside bus and tram), but only a split holds folders.
    """
    train = root / "train"
    if not (train.is_dir() and any(entry.is_dir() for entry in train.iterdir())):
        return {"train": root}
    named = ((split, root / name) for split, names in _SPLIT_FOLDERS.items() for name in names)
    return {split: folder for split, folder in named if folder.is_dir()}


def _folder(root: Path, name: str) -> Path:
    if not (root / name).is_dir():
        found = ", ".join(sorted(entry.name for entry in root.iterdir())[:5]) or "nothing"
        raise DataError(f"{root} has no folder {name}; found {found}; give the folder that holds train and val")
    return root / name


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the names of a folder's folders, sorted.

    Raises:
        DataError: there are none.
    """
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if not names:
        raise DataError(f"{folder} holds no images: it has no folders, one per class, to find any in")
    return tuple(names)


def _images_in(folder: Path) -> bool:
    return any(_is_image(entry.name) for entry in folder.iterdir() if entry.is_file())


def _is_image(name: str) -> bool:
    return name.lower().endswith(_ENDINGS)


def _images_below(folder: Path) -> Iterator[str]:
    """Yield the images of a class, folder by folder, each in the order of its names; links are followed."""
    for place, _, names in sorted(os.walk(folder, followlinks=True)):
        yield from (os.path.join(place, name) for name in sorted(names) if _is_image(name))


def _unlabelled_files(folder: Path, size: int, options: Options) -> FolderImages:
    """List all images below a folder in the order of their names, labelled 0."""
    found = (path for path in folder.rglob("*") if _is_image(path.name) and path.is_file())
    files = sorted(os.path.relpath(path, folder) for path in found)
    labels = np.zeros(len(files), np.int64)
    return FolderImages(folder, files, labels, size=size, channels=options.channels, workers=options.workers)


def labelled_files(
    folder: Path,
    label_names: Sequence[str],
    size: int,
    options: Options,
    *,
    need_every: bool = True,
    cropped: bool = False,
) -> FolderImages:
    """List the images of each class's folder, in the order of classes and names.

    Raises:
        DataError: a folder is none of the classes, a class has no images (where every one is needed), or all have.
    """
    for found in class_folders(folder):
        if found not in label_names:
            near = difflib.get_close_matches(found, label_names, n=1)
            hint = f"did you mean {near[0]}?" if near else "take it away or train with it"
            raise DataError(f"{folder} has a folder {found}, which is none of the classes; {hint}")
    known = f"known file types are {', '.join(_ENDINGS)}"
    # By name, whatever the classes' order: the fingerprints of sets on record were taken so.
    images = {name: list(_images_below(folder / name)) for name in sorted(label_names)}
    empty = [name for name, files in images.items() if not files]
    if empty and need_every:
        raise DataError(f"{folder} has classes without images: found none of {', '.join(empty)}; {known}")
    if len(empty) == len(images):
        raise DataError(f"{folder} holds no images; {known}")
    files = [os.path.relpath(file, folder) for files in images.values() for file in files]
    labels = np.repeat([label_names.index(name) for name in images], [len(files) for files in images.values()])
    return FolderImages(
        folder, files, labels, size=size, channels=options.channels, workers=options.workers, cropped=cropped
    )


def _annotated_files(folder: Path, label_names: Sequence[str], size: int, options: Options) -> FolderImages:
    """List the images of `val_annotations.txt`: a line each with file, class and a box, divided by tabs."""
    annotations = folder / "val_annotations.txt"
    if not annotations.is_file():
        return labelled_files(folder, label_names, size, options)
    indices = {name: index for index, name in enumerate(label_names)}
    files, labels = [], []
    for number, line in enumerate(annotations.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) < _ANNOTATION_FIELDS or fields[1] not in indices:
            raise DataError(
                f"line {number} of {annotations} must hold a file and its class; found {line!r}; get the file again"
            )
        files.append(os.path.join("images", fields[0]))
        labels.append(indices[fields[1]])
    return FolderImages(
        folder, files, np.array(labels, np.int64), size=size, channels=options.channels, workers=options.workers
    )
