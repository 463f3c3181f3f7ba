"""Which images recalibrate what `collapse` and `export` write, and which its temperatures are fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from subspace_serve.run.leakage import refuse_test_images, refuse_test_names
from subspace_serve.run.opened import OWN_PARTS, OpenRun

if TYPE_CHECKING:
    from subspace_serve.measure.temperature import TemperatureData
    from subspace_serve.network.calibration_data import CalibrationData
    from subspace_serve.space.alpha import Request


def calibrations_of(opened: OpenRun, request: Request, spec: str | None) -> dict[str, CalibrationData]:
    """Return the images that recompute each point's BatchNorm statistics."""
    if spec is not None:
        return dict.fromkeys(request.points, opened.calibration_on(spec))
    selections = opened.selections()
    points = {name: selected for name, selected in request.selected.items() if name in request.points}
    drawn = {selected: opened.calibration_for(selections[selected]) for selected in set(points.values())}
    return {name: drawn[points[name]] if name in points else opened.calibration for name in request.points}


def temperature_data_of(opened: OpenRun, request: Request, spec: str | None) -> dict[str, TemperatureData]:
    """Return the images on which the temperature of each point and each ensemble is fitted."""
    from subspace_serve.measure.temperature import TemperatureData

    images = opened.images(spec or "validation")
    if spec is not None:
        refuse_test_names(spec)
        if spec not in OWN_PARTS:
            refuse_test_images(images, opened.data.test)
    usual = TemperatureData(images, _full_name(opened, spec or "validation"), opened.seed)
    found = dict.fromkeys([*request.points, *request.ensembles], usual)
    if spec is not None:
        return found
    # What was selected for a domain will be asked about images from there.
    selections = opened.selections()
    wanted = {selected for selected in request.selected.values() if "domain" in selections[selected]}
    data = {selected: _domain_data(opened, selections[selected]) for selected in wanted}
    return found | {name: data[selected] for name, selected in request.selected.items() if selected in data}


def _domain_data(opened: OpenRun, selection: dict[str, Any]) -> TemperatureData:
    """Return the images that a selection was made on, divided as they were then."""
    from subspace_serve.measure.temperature import TemperatureData

    record = selection["domain"]
    # The record of images that lie corrupted on the disk names the corruption already.
    corruption = f", {record['corruption']}:{record['severity']}" if "preset" in record else ""
    name = _full_name(opened, record["data"]) + corruption
    return TemperatureData(opened.domain_of(record).images, name, selection.get("seed", opened.seed))


def _full_name(opened: OpenRun, spec: str) -> str:
    own = spec in ("validation", "train")
    return f"{opened.subspace.provenance['data']['spec']}:{spec}" if own else spec
