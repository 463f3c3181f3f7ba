"""What a specification of images means for a run: parts of its own data set, or other images of its network's size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subspace_serve.data import Images
    from subspace_serve.data.sources.copy_record import CopyRecord
    from subspace_serve.run.opened import OpenRun

OWN_PARTS = ("test", "validation", "train")
"""Specifications that mean parts of the data set that a run was trained on."""


def labelled_images(run: OpenRun, spec: str) -> Images:
    """Return the labelled images that a specification names; `test`, `validation` and `train` are the run's own."""
    from subspace_serve.data import load_images

    if spec in OWN_PARTS:
        return getattr(run.data, spec)
    return load_images(spec, **_wanted(run), label_names=run.labels, **_division(run))


def unlabelled_images(run: OpenRun, spec: str) -> Images:
    """Return the images that a specification names, without their labels, which need not be there or be the run's."""
    return getattr(run.data, spec) if spec in OWN_PARTS else images_from_outside(run, spec)


def images_from_outside(run: OpenRun, spec: str) -> Images:
    """Return images as `unlabelled_images` does, but take `test`, `validation` and `train` for folders of that name."""
    from subspace_serve.data import load_unlabelled

    return load_unlabelled(spec, **_wanted(run), **_division(run))


def is_copied(run: OpenRun, copy: CopyRecord) -> bool:
    """Return whether a copy was made of the run's own images, be they resized or repeated for its network or not."""
    from subspace_serve.data import load_part

    images = labelled_images(run, copy.split)
    if images.shape != copy.shape:
        # As `corrupt` had them: with their own channels, and of their own size unless that was asked to be a square.
        height, width, _ = copy.shape
        spec = run.subspace.provenance_value("training", "data")
        size = height if height == width else None
        images, _ = load_part(spec, copy.split, image_size=size, **_division(run))
    return images.fingerprint() == copy.fingerprint


def _wanted(run: OpenRun) -> dict[str, Any]:
    """Return what images must be like for the run's network."""
    architecture = run.subspace.architecture
    return {
        "height": architecture.height,
        "width": architecture.width,
        "channels": architecture.channels,
        "resize": run.resize or run.subspace.provenance.get("training", {}).get("image_size") is not None,
    }


def _division(run: OpenRun) -> dict[str, Any]:
    """Return how the run's validation images were carved; as usual where it has no data set of its own."""
    recorded = run.subspace.provenance.get("training", {}) if run.has_data else {}
    names = {"validation": "validation", "seed": "data_seed"}
    return {argument: recorded[name] for argument, name in names.items() if name in recorded}
