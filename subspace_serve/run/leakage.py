"""No leakage: which images may give statistics, choose, fit or promise, and which are there to report on.

A specification that names such images is refused, and so is one that means them under any other name: images are told
by what they hold, file by file where the run's own are files, else pixel by pixel. What cannot be compared is let
through: arrays with a run's files, which would have to be decoded all, and anything where the run's data is not
there, as where a bundle is used or weights were imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subspace_serve.data import Images
    from subspace_serve.data.sources.copy_record import CopyRecord
    from subspace_serve.run.opened import OpenRun

_MOST_SHARED = 0.01
"""Of a set's images, how many may be the run's own: in large sets a few are there twice."""

_RULES = {
    "test": "and nothing is chosen or fitted on test images: what is chosen there cannot be reported there",
    "train": "where every place looks good, and from which nothing about new images can be promised",
}
_KINDS = {"test": "test", "train": "training"}


def refuse_test_images(run: OpenRun, spec: str, images: Images) -> None:
    """Refuse the run's test images, as what gives statistics; and those of any data set that are named as such.

    Args:
        run: the run, or a bundle of it.
        spec: what the images are called.
        images: what it names, labelled or not; a corruption of them made here counts as the images themselves.

    Raises:
        DataError: more than a hundredth of them are test images of the run, they are called so, or they are a corrupted
            copy of test images; or the data set that a run was trained on is not there to be compared with.
    """
    from subspace_serve.errors import DataError

    if spec == "test":
        raise DataError(f"{spec} are test images, {_RULES['test']}; give others, such as validation")
    refuse_test_names(spec)
    _refuse_own(run, "test", spec, images)


def refuse_test_names(spec: str) -> None:
    """Refuse images that are named as the test images of a data set, or are a corrupted copy of some.

    Raises:
        DataError: they are.
    """
    from subspace_serve.data.specification import split_of
    from subspace_serve.errors import DataError

    if split_of(spec)[1] == "test":
        raise DataError(f"{spec} are test images, {_RULES['test']}; give others, such as validation")
    copy = corrupted_copy(spec)
    if copy is not None and copy.split == "test":
        raise DataError(
            f"{spec} holds corrupted test images, {_RULES['test']}; make a copy of validation images: "
            "subspace-serve corrupt --split validation"
        )


def refuse_seen_images(run: OpenRun, spec: str, images: Images) -> None:
    """Refuse the run's test and training images, as what chooses, fits or promises; all else is as above."""
    from subspace_serve.data.specification import split_of
    from subspace_serve.errors import DataError
    from subspace_serve.run.images import OWN_PARTS, is_copied

    refuse_test_images(run, spec, images)
    trained_on = run.subspace.provenance.get("training", {}).get("data")
    if spec == "train" or split_of(spec) == (trained_on, "train"):
        raise DataError(f"the networks were trained on {spec}, {_RULES['train']}; give others, such as validation")
    copy = corrupted_copy(spec)
    if copy is not None and copy.split in OWN_PARTS and _own(run, copy.split) is not None:
        made_of = is_copied(run, copy)
        if copy.split == "train" and made_of:
            raise DataError(
                f"{spec} holds corrupted training images of this run, {_RULES['train']}; make a copy of validation "
                "images: subspace-serve corrupt --split validation"
            )
        if copy.split == "validation" and copy.data == trained_on and not made_of:
            raise DataError(
                f"{spec} holds other validation images of {copy.data} than this run's, some of which it was trained "
                "on; make the copy with the run's --validation and --data-seed"
            )
    _refuse_own(run, "train", spec, images)


def corrupted_copy(spec: str) -> CopyRecord | None:
    """Return the record of a copy that `subspace-serve corrupt` wrote, when `spec` names one."""
    from subspace_serve.data.sources.copy_record import FILE_NAME, read_record
    from subspace_serve.data.specification import corrupted_folder

    folder = corrupted_folder(spec)
    return read_record(folder) if folder is not None and (folder / FILE_NAME).is_file() else None


def _refuse_own(run: OpenRun, part: str, spec: str, images: Images) -> None:
    """Refuse images of which more than a hundredth are in a part of the run's data, whatever they are called."""
    from subspace_serve.data.sharing import files_of, shared
    from subspace_serve.errors import DataError
    from subspace_serve.run.images import OWN_PARTS

    own = None if spec in OWN_PARTS else _own(run, part)  # the run's own parts are what they are called
    if own is None or (files_of(own) is not None and files_of(images) is None):
        return
    found = int(shared(images, own).sum())
    if found > _MOST_SHARED * len(images):
        raise DataError(
            f"{found} of the {len(images)} images are {_KINDS[part]} images of this run, {_RULES[part]}; give "
            f"others than {spec}"
        )


def _own(run: OpenRun, part: str) -> Images | None:
    """Return a part of the run's data; None where a bundle is used without it, or weights were imported without."""
    from subspace_serve.errors import CheckpointError, DataError

    try:
        return getattr(run.data, part)
    # Where a bundle is adapted, not every reader is installed, and what is there may not be readable.
    except (CheckpointError, DataError, ModuleNotFoundError, OSError):
        if run.bundled is None and run.has_data:
            raise
        return None
