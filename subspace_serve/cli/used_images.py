"""Which images of a labelled set had a part in what `export` writes: they chose a place, calibrated it or fitted it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from subspace_serve.cli.export_images import full_name
from subspace_serve.run.domains import clean_part
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.statistics import CHOOSING_HALF

if TYPE_CHECKING:
    import numpy as np

    from subspace_serve.data import Images
    from subspace_serve.measure.networks import StatisticsSource
    from subspace_serve.measure.temperature import TemperatureData
    from subspace_serve.space.alpha import Request


@dataclass(frozen=True)
class LabelledSet:
    """Labelled images, and their full name."""

    name: str
    images: Images

    @cached_property
    def fingerprint(self) -> str:
        """That of the images: a set may be named in several ways, or be a copy."""
        return self.images.fingerprint()

    def free_of(self, used: Iterable[np.ndarray | slice]) -> np.ndarray:
        """Return which images are in none of the parts `used`, bool (N,)."""
        import numpy as np

        free = np.ones(len(self.images), dtype=bool)
        for part in used:
            free[part] = False
        return free


class UsedImages:
    """Finds the images of a set that had a part in a model: a point or an ensemble, by its name in the request.

    Where a corrupted copy of an image had a part, the image had it too.
    """

    def __init__(self, opened: OpenRun, request: Request, calibrations: Mapping[str, StatisticsSource]) -> None:
        self._opened = opened
        self._request = request
        self._calibrations = calibrations
        self._selections = opened.selections()

    def chose_epoch(self, labelled: LabelledSet) -> Iterator[slice]:
        """Yield all images, if training stopped early on them."""
        stopped = self._opened.subspace.provenance.get("training", {}).get("early_stopping")
        if stopped and labelled.name == full_name(self._opened, "validation"):
            yield slice(None)

    def chose_place(self, model: str, labelled: LabelledSet) -> Iterator[np.ndarray]:
        """Yield the indices of images that chose the place of a model or of one of its members."""
        for name in dict.fromkeys((model, *self._members(model))):
            yield from self._choosing_halves(name, labelled)

    def calibrated(self, model: str, labelled: LabelledSet) -> Iterator[np.ndarray | slice]:
        """Yield the indices of images that gave the members of a model their statistics, and int8 its ranges."""
        for member in self._members(model):
            data = self._calibrations[member].to_json()["data"]
            if full_name(self._opened, data) == labelled.name:
                yield slice(None)
            elif data.endswith(CHOOSING_HALF):
                yield from self._choosing_halves(member, labelled)

    def fitted(self, temperature: TemperatureData | None, labelled: LabelledSet) -> Iterator[np.ndarray]:
        """Yield the indices of images on which a temperature is fitted."""
        if temperature is not None and temperature.images.fingerprint() == labelled.fingerprint:
            yield _half(temperature.images, temperature.seed)

    def _members(self, model: str) -> tuple[str, ...]:
        ensembles = self._request.ensembles
        return ensembles[model].members if model in ensembles else (model,)

    def _choosing_halves(self, name: str, labelled: LabelledSet) -> Iterator[np.ndarray]:
        if name not in self._request.selected:
            return
        selection = self._selections[self._request.selected[name]]
        clean = self._clean_name(labelled.name)
        for record in _domains_of(selection):
            if self._clean_name(record["data"]) == clean or record.get("fingerprint") == labelled.fingerprint:
                yield _half(labelled.images, selection.get("seed", self._opened.seed))

    def _clean_name(self, spec: str) -> str:
        """Return the full name of images, or of the clean ones that they were made of."""
        from subspace_serve.errors import DataError

        try:
            return full_name(self._opened, clean_part(self._opened, spec))
        except DataError:  # a copy of other images than the run's
            return spec


def _half(images: Images, seed: int) -> np.ndarray:
    """Return the indices of the half that `select` chooses on, and a temperature is fitted on."""
    from subspace_serve.data.drawing import carve

    return carve(images.labels, len(images) // 2, seed)[1]


def _domains_of(selection: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the records of the images that a selection was made on; several of a mixture."""
    if "domains" in selection:
        return [entry["domain"] for entry in selection["domains"].values()]
    return [selection["domain"]] if "domain" in selection else []
