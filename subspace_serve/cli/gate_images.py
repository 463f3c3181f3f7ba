"""Which labelled images gate the points in fp16 and int8 that `export` writes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

import click

from subspace_serve.cli.export_images import full_name
from subspace_serve.cli.used_images import LabelledSet, UsedImages
from subspace_serve.run.images import labelled_images
from subspace_serve.run.leakage import refuse_seen_images
from subspace_serve.run.opened import OpenRun

if TYPE_CHECKING:
    from subspace_serve.export.plan import GateData
    from subspace_serve.measure.networks import StatisticsSource
    from subspace_serve.space.alpha import Request


def gate_data_of(
    opened: OpenRun,
    request: Request,
    spec: str | None,
    max_drop: float,
    calibrations: Mapping[str, StatisticsSource],
) -> GateData:
    """Return the images on which points in fewer bits are compared with their float points.

    They are the images of `spec`, but not those that calibrated one of the points: a gate takes what they have not
    seen.

    Args:
        opened: the run.
        request: what is exported.
        spec: labelled images; None for the run's validation images.
        max_drop: by how many points the accuracy may fall.
        calibrations: where the statistics of each point, and the ranges of int8, come from.

    Raises:
        UsageError: the run has no labelled images and none are named, or all of them calibrated networks.
        DataError: they are test images, or the networks were trained on them.
        ExportError: they are too few for `max_drop` to be seen.
    """
    from subspace_serve.export.plan import GateData

    if spec is None and not opened.has_data:
        raise click.UsageError("a point in fewer bits is gated on labelled images; name some with --gate-data SPEC")
    name = spec or "validation"
    images, shown = labelled_images(opened, name), full_name(opened, name)
    refuse_seen_images(opened, name, images)
    labelled, used = LabelledSet(shown, images), UsedImages(opened, request, calibrations)
    free = labelled.free_of(chain.from_iterable(used.calibrated(point, labelled) for point in request.points))
    if len(images) > 0 and not free.any():
        raise click.UsageError(
            f"{shown} calibrated the networks, and a gate takes images that they have not seen; name others "
            "with --gate-data"
        )
    if not free.all():
        images, shown = images.subset(free.nonzero()[0]), f"{shown}, those that calibrated nothing"
    return GateData.drawn(images, shown, seed=opened.seed, max_drop=max_drop)
