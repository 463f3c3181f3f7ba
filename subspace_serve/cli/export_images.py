"""Which images recalibrate what `collapse` and `export` write, and which its temperatures are fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from subspace_serve.cli.run import OpenRun

if TYPE_CHECKING:
    from subspace_serve.alpha import Request
    from subspace_serve.calibration_data import CalibrationData
    from subspace_serve.temperature import TemperatureData


def calibrations_of(
    opened: OpenRun, request: Request, spec: str | None
) -> tuple[CalibrationData, dict[str, CalibrationData]]:
    """Return the images that recompute BatchNorm's statistics, and by point those that take their place."""
    if spec is not None:
        return opened.calibration_on(spec), {}
    selections = opened.selections()
    points = {name: selected for name, selected in request.selected.items() if name in request.points}
    drawn = {selected: opened.calibration_for(selections[selected]) for selected in set(points.values())}
    return opened.calibration, {name: drawn[selected] for name, selected in points.items()}


def temperature_data_of(
    opened: OpenRun, request: Request, spec: str | None
) -> tuple[TemperatureData, dict[str, TemperatureData]]:
    """Return the images on which temperatures are fitted, and by point and ensemble those that take their place."""
    from subspace_serve.errors import DataError
    from subspace_serve.temperature import TemperatureData

    if spec is not None and (spec == "test" or spec.endswith(":test")):
        raise DataError(
            "a temperature is never fitted on test images: what is fitted there cannot be reported there; "
            "give others with --temperature-data"
        )
    usual = TemperatureData(opened.images(spec or "validation"), _full_name(opened, spec or "validation"), opened.seed)
    if spec is not None:
        return usual, {}
    # What was selected for a domain will be asked about images from there.
    selections = opened.selections()
    wanted = {selected for selected in request.selected.values() if "domain" in selections[selected]}
    data = {selected: _domain_data(opened, selections[selected]["domain"]) for selected in wanted}
    return usual, {name: data[selected] for name, selected in request.selected.items() if selected in data}


def _domain_data(opened: OpenRun, record: dict[str, Any]) -> TemperatureData:
    """Return the images that a selection was made on, from its record of them."""
    from subspace_serve.temperature import TemperatureData

    spec = record["data"]
    if "preset" not in record:  # images as they lie on the disk, be they corrupted
        return TemperatureData(opened.images(spec), _full_name(opened, spec), opened.seed)
    corruption, severity = record["corruption"], record["severity"]
    (domain,) = opened.corrupted_domains(spec, [corruption], [severity], record["preset"], record["seed"])
    return TemperatureData(domain.images, f"{_full_name(opened, spec)}, {corruption}:{severity}", opened.seed)


def _full_name(opened: OpenRun, spec: str) -> str:
    own = spec in ("validation", "train")
    return f"{opened.subspace.provenance['data']['spec']}:{spec}" if own else spec
