"""Which images recalibrate the networks that `collapse` and `export` write, and which fit their temperatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from subspace_serve.cli.output import say_note
from subspace_serve.run.domains import recorded_domain
from subspace_serve.run.images import labelled_images
from subspace_serve.run.leakage import refuse_seen_images
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.statistics import (
    SOURCES,
    calibration_of_selection,
    calibration_on,
    statistics_on,
    usual_statistics,
)

if TYPE_CHECKING:
    from subspace_serve.measure.networks import StatisticsSource
    from subspace_serve.measure.temperature import TemperatureData
    from subspace_serve.network.calibration_data import CalibrationData
    from subspace_serve.space.alpha import Request


def calibrations_of(opened: OpenRun, request: Request, spec: str | None) -> dict[str, StatisticsSource]:
    """Return where each point's BatchNorm statistics come from: images to recompute them with, or a known set."""
    if spec is not None:
        return dict.fromkeys(request.points, statistics_on(opened, spec))
    selections = opened.selections()
    points = {name: selected for name, selected in request.selected.items() if name in request.points}
    drawn = {selected: calibration_of_selection(opened, selections[selected]) for selected in set(points.values())}
    found: dict[str, StatisticsSource] = {name: drawn[selected] for name, selected in points.items()}
    others = request.points.keys() - points.keys()
    return found | dict.fromkeys(others, usual_statistics(opened)) if others else found


def knot_images_of(opened: OpenRun, spec: str | None) -> CalibrationData | None:
    """Return the images that the statistics at the subspace's knots are computed from; None where there are none.

    For weights that were imported without data they are the images of `spec`, if it names any.
    """
    if opened.has_data or not opened.network.skeleton.batchnorms:
        return opened.calibration
    if spec is not None and spec != SOURCES:
        return calibration_on(opened, spec)
    say_note("the subspace is left out, since its statistics need images of the kind: name some with --calibrate-on")
    return None


def temperature_data_of(opened: OpenRun, request: Request, spec: str | None) -> dict[str, TemperatureData]:
    """Return the images on which the temperature of each point and each ensemble is fitted.

    Raises:
        DataError: those of `spec` are test images, or the networks were trained on them.
    """
    from subspace_serve.measure.temperature import TemperatureData

    images = labelled_images(opened, spec or "validation")
    if spec is not None:
        refuse_seen_images(opened, spec, images)
    usual = TemperatureData(images, full_name(opened, spec or "validation"), opened.seed)
    found = dict.fromkeys([*request.points, *request.ensembles], usual)
    if spec is not None:
        return found
    # What was selected for a domain will be asked about images from there; a mixture's are of no one place.
    selections = opened.selections()
    wanted = {selected for selected in request.selected.values() if "domain" in selections[selected]}
    data = {selected: _domain_data(opened, selections[selected]) for selected in wanted}
    return found | {name: data[selected] for name, selected in request.selected.items() if selected in data}


def _domain_data(opened: OpenRun, selection: dict[str, Any]) -> TemperatureData:
    """Return the images that a selection was made on, divided as they were then."""
    from subspace_serve.measure.temperature import TemperatureData

    record = selection["domain"]
    name = domain_data_name(opened, record)
    return TemperatureData(recorded_domain(opened, record).images, name, selection.get("seed", opened.seed))


def domain_data_name(opened: OpenRun, record: dict[str, Any]) -> str:
    """Return what the images that a selection was made on are, from what it records of them."""
    from subspace_serve.data.domains import described

    return described(record | {"data": full_name(opened, record["data"])})


def full_name(opened: OpenRun, spec: str) -> str:
    """Return a specification of images, with the data set where it names a part of the run's own."""
    own = spec in ("validation", "train")
    return f"{opened.subspace.provenance['data']['spec']}:{spec}" if own else spec
