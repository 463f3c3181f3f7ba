"""A trained run, or a bundle that holds its subspace, as the commands see it: networks, data, selections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subspace_serve.bundle.subspace import BundledSubspace
    from subspace_serve.data import DataSet, Images, Preprocessing
    from subspace_serve.data.domains import Domain
    from subspace_serve.measure.networks import StatisticsSource
    from subspace_serve.network.calibration_data import CalibrationData
    from subspace_serve.network.network import Network
    from subspace_serve.space.subspace import Subspace

OWN_PARTS = ("test", "validation", "train")
"""Specifications that mean parts of the data set that a run was trained on."""


def is_corrupted_set(spec: str) -> bool:
    """Return whether a specification names a published set of corrupted images, such as `cifar10-c:PATH`."""
    from subspace_serve.data.sources import CORRUPTED_READERS

    return spec.partition(":")[0] in CORRUPTED_READERS


@dataclass(frozen=True)
class OpenRun:
    """A trained run with its data at hand; each part is read when it is first asked for.

    A bundle that holds its subspace stands in for its run. Its networks have the statistics that it brings, so training
    images are not needed, nor torch; only what names the run's own images needs those.
    """

    path: Path
    arch: str | None = None
    device: str = "auto"
    calibration_count: int = 10_000
    calibration_batch: int = 128
    seed: int = 0
    resize: bool = False

    @cached_property
    def file(self) -> Path:
        """The checkpoint's file."""
        from subspace_serve.space.checkpoint import FILE_NAME

        return self.path if self.path.suffix == ".safetensors" else self.path / FILE_NAME

    @property
    def folder(self) -> Path:
        """The folder that keeps the run's selections and bundle."""
        return self.file.parent

    @cached_property
    def bundled(self) -> BundledSubspace | None:
        """The subspace of a bundle; None of a run.

        Raises:
            BundleError: the bundle is damaged, or holds points only.
        """
        from subspace_serve.bundle import Bundle
        from subspace_serve.bundle.manifest import MANIFEST_FILE
        from subspace_serve.bundle.subspace import BundledSubspace
        from subspace_serve.network.sessions import known_device

        if not (self.path / MANIFEST_FILE).is_file():
            return None
        return BundledSubspace(Bundle.open(self.path), device=known_device(self.device))

    def beside(self, name: str) -> Path:
        """Return where something about the run is written: in its folder, and beside a bundle, which stays as it is."""
        return (self.folder if self.bundled is None else self.folder.parent) / name

    @cached_property
    def subspace(self) -> Subspace:
        from subspace_serve.space.checkpoint import load_subspace

        return load_subspace(self.file) if self.bundled is None else self.bundled.subspace

    @cached_property
    def network(self) -> Network:
        """The run's subspace on ONNX Runtime.

        Raises:
            CheckpointError: the run has no skeleton, or that of another architecture.
            BundleError: the device is unknown or not there.
        """
        from subspace_serve.network.network import Network
        from subspace_serve.network.skeleton import Skeleton

        if self.bundled is not None:
            return self.bundled.network
        return Network.of(self.subspace, Skeleton.read(self.folder), self.preprocessing, device=self.device)

    @cached_property
    def checkpoint_sha256(self) -> str:
        from subspace_serve.files import sha256_of

        _ = self.subspace  # which says what to do where there is none
        return sha256_of(self.file)

    @property
    def note(self) -> str | None:
        """What a user of an unfinished run must know; None for a finished one."""

        unfinished = self.subspace.unfinished_training
        if unfinished is None:
            return None
        return (
            f"{self.folder} was trained for {unfinished[0]} of {unfinished[1]} epochs; go on with "
            f"subspace-serve train --resume {self.folder}"
        )

    @cached_property
    def data(self) -> DataSet:
        """The data set that the run was trained on, divided as it was then.

        Raises:
            DataError: it is not what it was at training.
        """
        from subspace_serve.data import load_data
        from subspace_serve.errors import DataError

        spec = self._recorded("training", "data")
        data = load_data(
            spec,
            validation=self._recorded("training", "validation"),
            seed=self._recorded("training", "data_seed"),
            image_size=self._recorded("training", "image_size"),
            decoded_size=self.subspace.architecture.height,
            left_out=self.subspace.provenance.get("data", {}).get("left_out", {}),
        )
        if data.fingerprint != self._recorded("data", "fingerprint"):
            raise DataError(
                f"the data set {spec} has changed since {self.path} was trained on it (its fingerprint "
                "differs), so its test images may have been trained on; bring the old data back or train again"
            )
        return data

    @cached_property
    def preprocessing(self) -> Preprocessing:
        from subspace_serve.data import Preprocessing

        return Preprocessing.from_json(self._recorded("preprocessing"))

    @property
    def labels(self) -> list[str]:
        return self._recorded("labels")

    @cached_property
    def statistics(self) -> StatisticsSource:
        """What gives networks their BatchNorm statistics: training images, or the set that a bundle has of them."""
        from subspace_serve.bundle.manifest import TRAINING

        return self.calibration if self.bundled is None else self.statistics_on(TRAINING)

    def statistics_on(self, spec: str) -> StatisticsSource:
        """Return a bundle's statistics set by its name, or else images of a domain to recalibrate with.

        Raises:
            DataError: they are test images.
        """
        from subspace_serve.network.statistics_set import KnownStatistics

        if self.bundled is None or spec not in self.bundled.sets:
            return self.calibration_on(spec)
        return KnownStatistics(
            self.bundled.statistics(spec), self.bundled.record.statistics[spec].calibration.model_dump()
        )

    @cached_property
    def calibration(self) -> CalibrationData:
        """Training images for BatchNorm's statistics."""
        return self._calibration(self.data.train, f"{self._recorded('data', 'spec')}:train")

    def calibration_on(self, spec: str) -> CalibrationData:
        """Return unlabelled images of a domain for BatchNorm's statistics instead of training images.

        Raises:
            DataError: they are test images.
        """
        from subspace_serve.data import load_unlabelled
        from subspace_serve.run.leakage import refuse_test_names

        refuse_test_names(spec)
        if spec in OWN_PARTS:
            return self._calibration(getattr(self.data, spec), spec)
        images = load_unlabelled(spec, **self._wanted())
        self.refuse_test_images(images)
        return self._calibration(images, spec)

    def statistics_of(self, name: str, selection: Mapping[str, Any]) -> StatisticsSource:
        """Return what a stored selection's networks have their statistics from, by its name."""
        if self.bundled is None:
            return self.calibration_for(selection)
        return self.statistics_on(self.bundled.bundle.manifest.domains[name].statistics)

    def calibration_in(self, domain: Domain, seed: int) -> CalibrationData:
        """Return the half of a domain's images on which a selection was made, without their labels."""
        from subspace_serve.select import split

        choosing, _ = split(domain.images, len(self.labels), seed=seed)
        return self._calibration(choosing, f"{domain.name}:choosing half")

    def calibration_for(self, selection: Mapping[str, Any]) -> CalibrationData:
        """Return the images that calibrated a stored selection."""
        from subspace_serve.select import DEFAULT_CALIBRATION, ON_DOMAIN

        recorded = selection.get("calibration", {"on": DEFAULT_CALIBRATION})
        on = recorded["on"]
        if on == DEFAULT_CALIBRATION:
            return self.calibration
        as_then = replace(
            self,
            calibration_count=recorded.get("count", self.calibration_count),
            calibration_batch=recorded.get("batch_size", self.calibration_batch),
            seed=recorded.get("seed", self.seed),
        )
        if on != ON_DOMAIN:
            return as_then.calibration_on(on)
        return as_then.calibration_in(as_then.domain_of(selection["domain"]), selection["seed"])

    def clean_part(self, spec: str) -> str:
        """Return which images are the clean ones of `spec`: itself, or what a set of corrupted images was made of.

        The published sets are corrupted test images; a copy by `subspace-serve corrupt` records its part.

        Raises:
            DataError: a copy was made of other images than the run's.
        """
        from subspace_serve.errors import DataError
        from subspace_serve.run.leakage import corrupted_copy

        if not is_corrupted_set(spec):
            return spec
        copy = corrupted_copy(spec)
        if copy is None:
            return "test"
        if self.images(copy.split).fingerprint() != copy.fingerprint:
            raise DataError(
                f"{spec} is a copy of other images than this run's {copy.split} images, so there are no clean ones to "
                f"compare with; evaluate one corruption as --data {spec}:{copy.corruptions[0]}:{copy.severities[0]}"
            )
        return copy.split

    def comparable(self, path: Path) -> OpenRun:
        """Open another run with the same options.

        Raises:
            DataError: it was trained for other classes.
        """
        from subspace_serve.errors import DataError

        other = replace(self, path=path)
        if other.labels != self.labels:
            raise DataError(
                f"the baseline {path} was trained for other classes than {self.path}; compare like with like"
            )
        return other

    def images(self, spec: str) -> Images:
        """Return the labelled images that a specification names; `test`, `validation` and `train` are the run's own."""
        from subspace_serve.data import load_images

        if spec in OWN_PARTS:
            return getattr(self.data, spec)
        return load_images(
            spec,
            **self._wanted(),
            label_names=self.labels,
            validation=self._recorded("training", "validation"),
            seed=self._recorded("training", "data_seed"),
        )

    def domain(self, spec: str, name: str | None = None) -> Domain:
        """Return labelled images as a domain."""
        from subspace_serve.data.domains import Domain

        images = self.images(spec)
        # The run's own parts are bound to it; other files may be changed until they are asked for again.
        record = {"data": spec} if spec in OWN_PARTS else {"data": spec, "fingerprint": images.fingerprint()}
        return Domain(name or spec, images, record)

    def domain_of(self, record: Mapping[str, Any]) -> Domain:
        """Return a domain again from what a selection records of it.

        Raises:
            DataError: its images have changed since.
        """
        from subspace_serve.errors import DataError

        if "preset" not in record:  # images as they lie on the disk, be they corrupted
            domain = self.domain(record["data"])
            if record.get("fingerprint", domain.record.get("fingerprint")) != domain.record.get("fingerprint"):
                raise DataError(
                    f"{record['data']} has changed since a place was chosen on it (its fingerprint differs); bring the "
                    "old images back or select again"
                )
            return domain
        (domain,) = self.corrupted_domains(
            record["data"], [record["corruption"]], [record["severity"]], record["preset"], record["seed"]
        )
        return domain

    def corrupted_domains(
        self,
        spec: str,
        corruptions: Sequence[str],
        severities: Sequence[int] = (3,),
        preset: str | None = None,
        seed: int | None = None,
    ) -> list[Domain]:
        """Return corrupted images, a domain for each type and severity.

        Args:
            spec: clean images, which are corrupted here; or a set of corrupted images in a published layout
                (`cifar10-c:PATH`), which holds them.
            corruptions: names, lists with commas, or `all`.
            severities: from 1 to 5.
            preset: the severity table; by the images' size when None.
            seed: of the noise; the run's option when None.
        """
        from subspace_serve.data.domains import corrupted_domains, parse_corruptions

        severities = list(dict.fromkeys(severities))
        if is_corrupted_set(spec):
            return self._published_corruptions(spec, corruptions, severities)
        from subspace_serve.data.corruptions import CORRUPTIONS, available

        everything = [name for text in corruptions for name in text.split(",")]
        known = available() if "all" in everything else CORRUPTIONS
        names = parse_corruptions(corruptions, known)
        noise = self.seed if seed is None else seed
        return corrupted_domains(self.images(spec), spec, names, severities, preset=preset, seed=noise)

    def refuse_test_images(self, images: Images) -> None:
        """Refuse images of which some are the run's test images, where these are at hand to be compared with.

        A bundle is used where its training data is not: then nothing can be compared.

        Raises:
            DataError: they are test images.
        """
        from subspace_serve.errors import DataError
        from subspace_serve.run.leakage import refuse_test_images

        try:
            test = self.data.test
        except DataError:
            if self.bundled is None:
                raise
            return
        refuse_test_images(images, test)

    def selections(self) -> dict[str, dict[str, Any]]:
        """Return what `select` stored for this run, or `adapt` and `select` in the bundle."""
        from subspace_serve.run.selections import read_selections

        if self.bundled is not None:
            domains = self.bundled.bundle.manifest.domains
            return {name: domain.chosen for name, domain in domains.items() if domain.chosen is not None}
        return read_selections(self.folder, self.checkpoint_sha256)

    def _published_corruptions(self, spec: str, corruptions: Sequence[str], severities: Sequence[int]) -> list[Domain]:
        from subspace_serve.data import corruptions_in
        from subspace_serve.data.domains import Domain, parse_corruptions

        found = corruptions_in(spec)
        domains = []
        for name in parse_corruptions(corruptions, tuple(found)):
            # A set without severities (MNIST-C) has each type once.
            for tail in [f"{name}:{severity}" for severity in severities] if found[name] else [name]:
                severity = int(tail.rpartition(":")[2]) if found[name] else None
                data = f"{spec}:{tail}"
                record = {"data": data, "corruption": name, "severity": severity}
                domains.append(Domain(tail, self.images(data), record))
        return domains

    def _calibration(self, images: Images, name: str) -> CalibrationData:
        from subspace_serve.network.calibration_data import draw_calibration_data

        return draw_calibration_data(
            images,
            self.preprocessing,
            name=name,
            count=self.calibration_count,
            batch_size=self.calibration_batch,
            seed=self.seed,
        )

    def _wanted(self) -> dict[str, Any]:
        """Return what images must be like for this network."""
        architecture = self.subspace.architecture
        return {
            "height": architecture.height,
            "width": architecture.width,
            "channels": architecture.channels,
            "resize": self.resize or self._recorded("training", "image_size") is not None,
        }

    def _recorded(self, *keys: str) -> Any:

        return self.subspace.provenance_value(*keys)
