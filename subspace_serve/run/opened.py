"""A trained run, or a bundle that holds its subspace, as the commands see it: networks, data, selections.

What a specification means for it is said in `images` and `domains`, and where BatchNorm statistics come from in
`statistics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subspace_serve.files import pinned, sha256_of

if TYPE_CHECKING:
    from subspace_serve.bundle.subspace import BundledSubspace
    from subspace_serve.data import DataSet, Images, Preprocessing
    from subspace_serve.network.calibration_data import CalibrationData
    from subspace_serve.network.network import Network
    from subspace_serve.space.subspace import Subspace


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

    def __post_init__(self) -> None:
        # A training that goes on beside a command points runs/latest at its own run.
        path = self.path
        path = pinned(path.parent) / path.name if path.suffix == ".safetensors" else pinned(path)
        object.__setattr__(self, "path", path)

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
        from subspace_serve.files import MANIFEST_FILE

        if not (self.path / MANIFEST_FILE).is_file():  # a run: what reads bundles is not even imported
            return None
        from subspace_serve.bundle import Bundle
        from subspace_serve.bundle.subspace import BundledSubspace
        from subspace_serve.network.sessions import known_device

        return BundledSubspace(Bundle.open(self.path), device=known_device(self.device))

    def beside(self, name: str) -> Path:
        """Return where something about the run is written: in its folder, and beside a bundle, which stays as it is."""
        if self.bundled is None:
            return self.folder / name
        folder = self.folder if self.folder.name else self.folder.resolve()  # "." has no parent but itself
        return folder.parent / name

    @cached_property
    def subspace(self) -> Subspace:
        return self._read[0]

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
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[Subspace, str]:
        """The subspace and the hash of its file, of which every epoch of a run in training makes another."""
        from subspace_serve.space.checkpoint import load_subspace

        if self.bundled is not None:
            return self.bundled.subspace, sha256_of(self.file)
        while True:
            before = self.file.stat().st_ino if self.file.is_file() else None
            subspace = load_subspace(self.file)  # which says what to do where there is none
            sha256 = sha256_of(self.file)
            if self.file.stat().st_ino == before:
                return subspace, sha256

    def selections(self) -> dict[str, dict[str, Any]]:
        """Return what `select` stored for this run, or `adapt` and `select` in the bundle.

        Raises:
            CheckpointError, BundleError: it is damaged, or a selection was made for another checkpoint.
        """
        from subspace_serve.errors import BundleError
        from subspace_serve.run.selections import check_selection, read_selections

        if self.bundled is None:
            return read_selections(self.folder, self.checkpoint_sha256)
        domains = self.bundled.bundle.manifest.domains
        found = {name: domain.chosen for name, domain in domains.items() if domain.chosen is not None}
        try:
            for name, selection in found.items():
                check_selection(name, selection)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(f"the manifest of {self.path} is damaged ({error}); export it again") from error
        return found

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

    @property
    def has_data(self) -> bool:
        """Whether the run names a data set; one of imported weights may have labels alone."""
        return "import" not in self.subspace.provenance or "data" in self.subspace.provenance

    @cached_property
    def data(self) -> DataSet:
        """The data set that the run was trained on, divided as it was then.

        Raises:
            DataError: it is not what it was at training, or weights were imported without one.
        """
        from subspace_serve.data import load_data
        from subspace_serve.errors import DataError

        if not self.has_data:
            raise DataError(
                f"{self.path} was imported without a data set and images of it are asked for; name images "
                "(--data or --val-data SPEC, and --calibrate-on SPEC), or import the weights with --data"
            )
        recorded = self.subspace.provenance_value
        spec = recorded("training", "data")
        data = load_data(
            spec,
            validation=recorded("training", "validation"),
            seed=recorded("training", "data_seed"),
            image_size=recorded("training", "image_size"),
            channels=self.subspace.provenance["training"].get("channels"),
            decoded_size=self.subspace.architecture.height,
            left_out=self.subspace.provenance.get("data", {}).get("left_out", {}),
        )
        if data.fingerprint != recorded("data", "fingerprint"):
            raise DataError(
                f"the data set {spec} has changed since {self.path} was trained on it (its fingerprint "
                "differs), so its test images may have been trained on; bring the old data back or train again"
            )
        return data

    @cached_property
    def preprocessing(self) -> Preprocessing:
        from subspace_serve.data import Preprocessing

        return Preprocessing.from_json(self.subspace.provenance_value("preprocessing"))

    @property
    def labels(self) -> list[str]:
        return self.subspace.provenance_value("labels")

    @cached_property
    def examples(self) -> Images:
        """Images on which graphs are compared: test images, or noise where there is no data set."""
        if self.has_data:
            return self.data.test
        import numpy as np

        from subspace_serve.data import MemoryImages

        wanted = self.subspace.architecture
        size = (64, wanted.height, wanted.width, wanted.channels)
        return MemoryImages(np.random.default_rng(0).integers(0, 256, size, np.uint8), np.zeros(size[0], np.int64))

    @cached_property
    def calibration(self) -> CalibrationData:
        """Training images for BatchNorm's statistics."""
        if not self.has_data and not self.network.skeleton.batchnorms:
            return self.draw(self.examples, "noise")  # nothing is computed from them
        return self.draw(self.data.train, f"{self.subspace.provenance_value('data', 'spec')}:train")

    def draw(self, images: Images, name: str) -> CalibrationData:
        """Draw, as the options say, the images that BatchNorm's statistics are computed from.

        Args:
            images: those to draw from.
            name: theirs, for the record.
        """
        from subspace_serve.network.calibration_data import draw_calibration_data

        return draw_calibration_data(
            images,
            self.preprocessing,
            name=name,
            count=self.calibration_count,
            batch_size=self.calibration_batch,
            seed=self.seed,
        )
