"""Which images of a labelled set had a part in what `export` writes: they chose a place, calibrated it or fitted it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from subspace_serve.cli.export_images import full_name
from subspace_serve.run.domains import clean_part, recorded_domain
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

    def among(self, others: Images) -> np.ndarray:
        """Return which of the images others hold too, bool (N,); corrupted ones are those that they are made of."""
        from subspace_serve.data.sharing import shared

        return shared(self.images, others)

    def free_of(self, used: Iterable[np.ndarray | slice]) -> np.ndarray:
        """Return which images are in none of the parts `used`, bool (N,)."""
        import numpy as np

        free = np.ones(len(self.images), dtype=bool)
        for part in used:
            free[part] = False
        return free


class UsedImages:
    """Finds the images of a set that had a part in a model: a point or an ensemble, by its name in the request.

    Images are told by what they hold: they had a part under whatever name, in whatever file. Where a corrupted copy of
    an image had a part, the image had it too.
    """

    def __init__(self, opened: OpenRun, request: Request, calibrations: Mapping[str, StatisticsSource]) -> None:
        self._opened = opened
        self._request = request
        self._calibrations = calibrations
        self._selections = opened.selections()
        self._clean_names: dict[str, str] = {}

    def chose_epoch(self, labelled: LabelledSet) -> Iterator[np.ndarray | slice]:
        """Yield which images training stopped early on, if it did."""
        if self._opened.subspace.provenance.get("training", {}).get("early_stopping"):
            yield self._in_both(labelled, "validation", self._opened.data.validation)

    def chose_place(self, model: str, labelled: LabelledSet) -> Iterator[np.ndarray]:
        """Yield which images chose the place of a model or of one of its members."""
        for name in dict.fromkeys((model, *self._members(model))):
            yield from self._choosing_halves(name, labelled)

    def calibrated(self, model: str, labelled: LabelledSet) -> Iterator[np.ndarray | slice]:
        """Yield which images gave the members of a model their statistics, and int8 its ranges."""
        from subspace_serve.network.calibration_data import CalibrationData

        for member in self._members(model):
            source = self._calibrations[member]
            data = source.to_json()["data"]
            if data.endswith(CHOOSING_HALF):
                yield from self._choosing_halves(member, labelled)
            elif isinstance(source, CalibrationData) and not self._are_training(data, source.drawn_from):
                yield self._in_both(labelled, data, source.drawn_from)

    def fitted(self, temperature: TemperatureData | None, labelled: LabelledSet) -> Iterator[np.ndarray]:
        """Yield which images a temperature is fitted on."""
        if temperature is not None:
            yield labelled.among(temperature.images.subset(_half(temperature.images, temperature.seed)))

    def _members(self, model: str) -> tuple[str, ...]:
        ensembles = self._request.ensembles
        return ensembles[model].members if model in ensembles else (model,)

    def _choosing_halves(self, name: str, labelled: LabelledSet) -> Iterator[np.ndarray]:
        if name not in self._request.selected:
            return
        selection = self._selections[self._request.selected[name]]
        seed = selection.get("seed", self._opened.seed)
        clean = self._clean_name(labelled.name)
        for record in _domains_of(selection):
            if self._clean_name(record["data"]) == clean or record.get("fingerprint") == labelled.fingerprint:
                yield _half(labelled.images, seed)
            elif (images := self._images_again(record)) is not None:
                yield labelled.among(images.subset(_half(images, seed)))

    def _in_both(self, labelled: LabelledSet, spec: str, images: Images) -> np.ndarray | slice:
        """Return which images of a set are among others, or among those that the others are corrupted copies of."""
        same = self._clean_name(spec) == self._clean_name(labelled.name)
        return slice(None) if same else labelled.among(images)

    def _are_training(self, spec: str, images: Images) -> bool:
        """Return whether images are the run's training images, which no labelled set may hold (`run.leakage`)."""
        opened = self._opened
        return opened.has_data and (images is opened.data.train or spec == full_name(opened, "train"))

    def _images_again(self, record: Mapping[str, Any]) -> Images | None:
        """Return the images that a place was chosen on; None where they have changed, or are there no more."""
        from subspace_serve.errors import DataError

        try:
            return recorded_domain(self._opened, record).images
        except DataError:
            return None

    def _clean_name(self, spec: str) -> str:
        """Return the full name of images, or of the clean ones that they were made of."""
        from subspace_serve.errors import DataError

        if spec not in self._clean_names:
            try:
                self._clean_names[spec] = full_name(self._opened, clean_part(self._opened, spec))
            except DataError:  # a copy of other images than the run's
                self._clean_names[spec] = spec
        return self._clean_names[spec]


def _half(images: Images, seed: int) -> np.ndarray:
    """Return the indices of the half that `select` chooses on, and a temperature is fitted on."""
    from subspace_serve.data.drawing import carve

    return carve(images.labels, len(images) // 2, seed)[1]


def _domains_of(selection: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the records of the images that a selection was made on; several of a mixture."""
    if "domains" in selection:
        return [entry["domain"] for entry in selection["domains"].values()]
    return [selection["domain"]] if "domain" in selection else []
