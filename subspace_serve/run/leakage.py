"""No leakage: test images are there to report on, and nothing is chosen, fitted or recalibrated on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subspace_serve.data import Images
    from subspace_serve.data.sources.copy_record import CopyRecord
    from subspace_serve.run.opened import OpenRun

_MOST_SHARED = 0.01


def refuse_test_names(spec: str) -> None:
    """Refuse a specification that names test images, or a corrupted copy that was made of them.

    Raises:
        DataError: it does.
    """
    from subspace_serve.errors import DataError

    if spec == "test" or spec.endswith(":test"):
        raise DataError(
            f"{spec} are test images, and nothing is chosen or fitted on test images: what is chosen there cannot be "
            "reported there; give others, such as validation"
        )
    copy = corrupted_copy(spec)
    if copy is not None and copy.split == "test":
        raise DataError(
            f"{spec} holds corrupted test images, and nothing is chosen or fitted on test images; make a copy of "
            "validation images: subspace-serve corrupt --split validation"
        )


def corrupted_copy(spec: str) -> CopyRecord | None:
    """Return the record of a copy that `subspace-serve corrupt` wrote, when `spec` names one."""
    from subspace_serve.data.sources.copy_record import FILE_NAME, read_record

    name, _, rest = spec.partition(":")
    parts = rest.split(":")
    folders = [Path(":".join(parts[:taken])) for taken in range(len(parts), 0, -1)]
    folder = next((folder for folder in folders if (folder / FILE_NAME).is_file()), None)
    return read_record(folder) if name == "corrupted" and folder is not None else None


def refuse_test_images(run: OpenRun, images: Images) -> None:
    """Refuse images of which more than a hundredth are, byte for byte, the run's test images.

    Only sets in memory are compared: files would have to be decoded all. A bundle is used where its training data is
    not, and weights may be imported without data: then nothing can be compared.

    Raises:
        DataError: they are, or the data set that a run was trained on is not there to be compared with.
    """
    _refuse_images_of(run, "test", images, "nothing is chosen or fitted on test images")


def refuse_training_images(run: OpenRun, images: Images) -> None:
    """Refuse images of which more than a hundredth are, byte for byte, the run's training images, as above."""
    _refuse_images_of(run, "train", images, "nothing about new images can be promised from them")


def _refuse_images_of(run: OpenRun, part: str, images: Images, rule: str) -> None:
    from subspace_serve.data import MemoryImages
    from subspace_serve.errors import DataError

    try:
        own = getattr(run.data, part)
    except DataError:
        if run.bundled is None and run.has_data:
            raise
        return
    if not isinstance(own, MemoryImages):
        return
    shared = int(images.among(own).sum())
    if shared > _MOST_SHARED * len(images):
        kind = {"test": "test", "train": "training"}[part]
        raise DataError(f"{shared} of the {len(images)} images are {kind} images of this run, and {rule}: give others")
