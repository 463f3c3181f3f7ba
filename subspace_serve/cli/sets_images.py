"""Which labelled images calibrate the prediction sets that `export` writes: those that chose nothing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from subspace_serve.cli.export_images import domain_data_name, full_name
from subspace_serve.cli.output import say_note
from subspace_serve.cli.used_images import LabelledSet, UsedImages
from subspace_serve.run.domains import recorded_domain
from subspace_serve.run.images import labelled_images
from subspace_serve.run.leakage import refuse_seen_images
from subspace_serve.run.opened import OpenRun

if TYPE_CHECKING:
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
    finder = _Finder(opened, request, spec, method, UsedImages(opened, request, calibrations))
    found = {}
    for name in [*request.points, *request.ensembles]:
        data = finder.of(name, temperatures.get(name))
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

    # Of any data set: nothing is known of what imported networks were trained on.
    if spec == "train" or spec.endswith(":train"):
        raise DataError(
            f"{spec} are images that the networks were trained on, so nothing about new images can be promised from "
            "them; give others, such as validation"
        )
    refuse_seen_images(opened, spec, labelled_images(opened, spec))


class _Finder:
    """Finds the images of each model; models that have the same ones share them."""

    def __init__(self, opened: OpenRun, request: Request, spec: str | None, method: Method, used: UsedImages) -> None:
        self._opened = opened
        self._request = request
        self._spec = spec
        self._method = method
        self._used = used
        self._selections = opened.selections()
        self._known: dict[tuple[str, bytes], SetsData] = {}

    def of(self, name: str, temperature: TemperatureData | None) -> SetsData | None:
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
        labelled, used = LabelledSet(source, images), self._used
        free = labelled.free_of(
            chain(
                used.chose_epoch(labelled),
                used.chose_place(name, labelled),
                used.calibrated(name, labelled),
                used.fitted(temperature, labelled),
            )
        )
        if not free.any():
            return None
        key = (shown, free.tobytes())
        if key not in self._known:
            text = shown if free.all() else f"{shown}, those that chose nothing"
            self._known[key] = SetsData(
                images.subset(np.flatnonzero(free)), text, self._method, self._opened.seed, like_evaluation
            )
        return self._known[key]
