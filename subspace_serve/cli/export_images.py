"""Which images recalibrate the networks that `collapse` and `export` write, and which fit their temperatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subspace_serve.cli.output import say_note
from subspace_serve.run.domains import recorded_domain
from subspace_serve.run.images import labelled_images
from subspace_serve.run.leakage import refuse_seen_images
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.statistics import (
    statistics_of_selection,
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
    drawn = {each: statistics_of_selection(opened, each, selections[each]) for each in set(points.values())}
    found = {name: drawn[selected] for name, selected in points.items()}
    others = request.points.keys() - points.keys()
    return found | dict.fromkeys(others, usual_statistics(opened)) if others else found


def knot_images_of(
    opened: OpenRun, spec: str | None, calibrations: Mapping[str, StatisticsSource]
) -> CalibrationData | None:
    """Return the images that the statistics at the subspace's knots are computed from; None where there are none.

    For weights that were imported without data they are the images of `spec`, if it names any: the very ones that all
    points were given.
    """
    from subspace_serve.network.calibration_data import CalibrationData

    if opened.has_data or not opened.network.skeleton.batchnorms:
        return opened.calibration
    given = next(iter(calibrations.values()))
    if spec is not None and isinstance(given, CalibrationData):
        return given
    say_note("the subspace is left out, since its statistics need images of the kind: name some with --calibrate-on")
    return None


def temperature_data_of(opened: OpenRun, request: Request, spec: str | None) -> dict[str, TemperatureData]:
    """Return the images on which the temperature of each point and each ensemble is fitted.

    Raises:
        DataError: those of `spec` are test images, or the networks were trained on them.
    """
    from subspace_serve.measure.temperature import TemperatureData

    if spec is not None:
        images = labelled_images(opened, spec)
        refuse_seen_images(opened, spec, images)
        data = TemperatureData(images, full_name(opened, spec), opened.seed)
        return dict.fromkeys([*request.points, *request.ensembles], data)
    # What was selected for a domain will be asked about images from there; a mixture's are of no one place.
    selections = {name: selection for name, selection in opened.selections().items() if "domain" in selection}
    asked = {name: request.selected.get(name) for name in (*request.points, *request.ensembles)}
    of_domain = {each: _temperature_data_in(opened, selections[each]) for each in selections.keys() & asked.values()}
    found = {name: of_domain[selected] for name, selected in asked.items() if selected in of_domain}
    if others := asked.keys() - found.keys():
        images = labelled_images(opened, "validation")
        found |= dict.fromkeys(others, TemperatureData(images, full_name(opened, "validation"), opened.seed))
    return found


def _temperature_data_in(opened: OpenRun, selection: dict[str, Any]) -> TemperatureData:
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
