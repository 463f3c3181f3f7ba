"""Which labelled images calibrate the prediction sets that `export` writes: those that chose nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from subspace_serve.cli.export_images import domain_data_name, full_name
from subspace_serve.cli.output import say_note
from subspace_serve.run.domains import clean_part, recorded_domain
from subspace_serve.run.images import OWN_PARTS, labelled_images
from subspace_serve.run.leakage import refuse_test_images, refuse_test_names, refuse_training_images
from subspace_serve.run.opened import OpenRun

if TYPE_CHECKING:
    import numpy as np

    from subspace_serve.data import Images
    from subspace_serve.measure.conformal import SetsData
    from subspace_serve.measure.networks import StatisticsSource
    from subspace_serve.measure.temperature import TemperatureData
    from subspace_serve.prediction_sets import Method
    from subspace_serve.space.alpha import Request


def sets_data_of(
    opened: OpenRun,
    request: Request,
    spec: str | None,
    method: Method,
    temperatures: Mapping[str, TemperatureData],
    calibrations: Mapping[str, StatisticsSource],
) -> dict[str, SetsData]:
    """Return the images on which the sets of each point and each ensemble are calibrated.

    They are the images of `spec`, else the domain's that the model was selected for, else the run's validation images:
    of these, all that neither chose the place of the model or of one of its members, nor gave them their statistics,
    nor fitted the temperature. A model without such images gets no sets.

    Args:
        opened: the run.
        request: what is exported.
        spec: labelled images, or None.
        method: the score of a label.
        temperatures: the images that fit temperatures, by model.
        calibrations: where each point's statistics come from.

    Raises:
        DataError: the images are test images, or images that the networks were trained on.
    """
    if spec is not None:
        _refuse(opened, spec)
    finder = _Finder(opened, request, spec, method)
    found = {}
    for name in [*request.points, *request.ensembles]:
        data = finder.of(name, temperatures.get(name), calibrations)
        if data is None:
            say_note(
                f"{name} gets no prediction sets: there are no images left that chose nothing; name some with "
                "--sets-data"
            )
        else:
            found[name] = data
    return found


def _refuse(opened: OpenRun, spec: str) -> None:
    from subspace_serve.errors import DataError

    refuse_test_names(spec)
    if spec == "train" or spec.endswith(":train"):
        raise DataError(
            f"{spec} are images that the networks were trained on, so nothing about new images can be promised from "
            "them; give others, such as validation"
        )
    if spec not in OWN_PARTS:
        images = labelled_images(opened, spec)
        refuse_test_images(opened, images)
        refuse_training_images(opened, images)


class _Finder:
    """Finds the images of each model; models that have the same ones share them."""

    def __init__(self, opened: OpenRun, request: Request, spec: str | None, method: Method) -> None:
        self._opened = opened
        self._request = request
        self._spec = spec
        self._method = method
        self._selections = opened.selections()
        self._known: dict[tuple[str, bytes], SetsData] = {}

    def of(
        self, name: str, temperature: TemperatureData | None, calibrations: Mapping[str, StatisticsSource]
    ) -> SetsData | None:
        """Return the images of one model; None where none are left."""
        import numpy as np

        from subspace_serve.measure.conformal import SetsData

        selection = self._selections[self._request.selected[name]] if name in self._request.selected else {}
        of_domain = self._spec is None and "domain" in selection
        if of_domain:
            source, shown = selection["domain"]["data"], domain_data_name(self._opened, selection["domain"])
            images = recorded_domain(self._opened, selection["domain"]).images
        elif self._spec is None and not self._opened.has_data:
            return None
        else:
            source = self._spec or "validation"
            images, shown = labelled_images(self._opened, source), full_name(self._opened, source)
        source = full_name(self._opened, source)
        like_evaluation = not of_domain and self._opened.has_data and source == full_name(self._opened, "validation")
        free = np.ones(len(images), dtype=bool)
        for used in self._used(name, source, images, temperature, calibrations):
            free[used] = False
        if not free.any():
            return None
        key = (shown, free.tobytes())
        if key not in self._known:
            text = shown if free.all() else f"{shown}, those that chose nothing"
            self._known[key] = SetsData(
                images.subset(np.flatnonzero(free)), text, self._method, self._opened.seed, like_evaluation
            )
        return self._known[key]

    def _used(
        self,
        name: str,
        source: str,
        images: Images,
        temperature: TemperatureData | None,
        calibrations: Mapping[str, StatisticsSource],
    ) -> Iterator[np.ndarray | slice]:
        """Yield the indices of those images of `source` that had a part in a model."""
        from subspace_serve.data.drawing import carve

        def half(labels: np.ndarray, seed: int) -> np.ndarray:
            """Return what `select` chooses on, and a temperature is fitted on."""
            return carve(labels, len(labels) // 2, seed)[1]

        request, opened = self._request, self._opened
        if opened.subspace.provenance.get("training", {}).get("early_stopping") and source == full_name(
            opened, "validation"
        ):
            yield slice(None)  # they chose the epoch
        members = request.ensembles[name].members if name in request.ensembles else (name,)
        fingerprint = images.fingerprint()  # a set may be named in several ways, or be a copy
        clean = _clean_name(opened, source)
        for selected in {request.selected[part] for part in (name, *members) if part in request.selected}:
            selection = self._selections[selected]
            for record in _domains_of(selection):
                # Images that are alike but for a corruption had a part too.
                if _clean_name(opened, record["data"]) == clean or record.get("fingerprint") == fingerprint:
                    yield half(images.labels, selection.get("seed", opened.seed))
        if any(full_name(opened, calibrations[member].to_json()["data"]) == source for member in members):
            yield slice(None)
        if temperature is not None and temperature.images.fingerprint() == fingerprint:
            yield half(temperature.images.labels, temperature.seed)


def _clean_name(opened: OpenRun, spec: str) -> str:
    """Return the full name of images, or of the clean ones that they were made of."""
    from subspace_serve.errors import DataError

    try:
        return full_name(opened, clean_part(opened, spec))
    except DataError:  # a copy of other images than the run's
        return spec


def _domains_of(selection: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the records of the images that a selection was made on; several of a mixture."""
    if "domains" in selection:
        return [entry["domain"] for entry in selection["domains"].values()]
    return [selection["domain"]] if "domain" in selection else []
