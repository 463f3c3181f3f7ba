"""ImageNet-C and Tiny-ImageNet-C: <type>/<severity>/<wnid>/ with image files."""

from __future__ import annotations

from pathlib import Path

from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.sources.corrupted_sets import SEVERITIES, Contents, CorruptedReader
from subspace_serve.data.sources.folder_parts import class_folders
from subspace_serve.data.sources.image_folder import IMAGENET_SIZE, TINY_IMAGENET_SIZE, labelled_files
from subspace_serve.data.sources.listing import folders_in
from subspace_serve.data.sources.source import Options, Source


def _contents(path: Path) -> Contents:
    found = {}
    for name in folders_in(path):
        severities = tuple(severity for severity in SEVERITIES if (path / name / str(severity)).is_dir())
        if severities:
            found[name] = severities
    return found


def _reader(name: str, own_size: int, *, cropped: bool) -> CorruptedReader:
    def read(path: Path, corruption: str, severity: int, options: Options) -> Source:
        folder = path / corruption / str(severity)
        label_names = options.label_names or class_folders(folder)
        size = options.image_size or own_size
        files = labelled_files(
            folder, label_names, size, options, need_every=options.label_names is None, cropped=cropped
        )
        return Source(name=name, label_names=label_names, augmentation=Augmentation(), test=files)

    return CorruptedReader(_contents, read)


# ImageNet-C's files are the middle 224 pixels of pictures whose shorter side was 256; they are not to be cut again.
IMAGENET_C = _reader("imagenet-c", IMAGENET_SIZE, cropped=True)
TINY_IMAGENET_C = _reader("tiny-imagenet-c", TINY_IMAGENET_SIZE, cropped=False)
