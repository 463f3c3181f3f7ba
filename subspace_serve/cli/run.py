"""What the commands that read a run share: its options, its subspace and its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from subspace_serve.calibration_data import CalibrationData
    from subspace_serve.data import DataSet, Images, Preprocessing
    from subspace_serve.subspace import Subspace

LATEST_RUN = Path("runs/latest")


def run_options(command: Callable) -> Callable:
    """Add the argument RUN and the options that say how its networks are built and recalibrated."""
    for decorate in (
        click.argument("run", type=click.Path(path_type=Path), default=LATEST_RUN),
        click.option("--arch", metavar="MODULE:FUNCTION", help="The run's own architecture, when it has one."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
        click.option(
            "--calibration-count", type=click.IntRange(2), default=10_000, show_default=True,
            help="Training images, at most, that recompute BatchNorm's statistics.",
        ),
        click.option("--calibration-batch", type=click.IntRange(2), default=128, show_default=True),
        click.option("--seed", default=0, show_default=True, help="Of what is drawn here (calibration images)."),
    ):  # fmt: skip
        command = decorate(command)
    return command


@dataclass(frozen=True)
class OpenRun:
    """A trained run with its data at hand; each part is read when it is first asked for."""

    path: Path
    arch: str | None = None
    device: str = "auto"
    calibration_count: int = 10_000
    calibration_batch: int = 128
    seed: int = 0

    @cached_property
    def file(self) -> Path:
        """The checkpoint's file."""
        from subspace_serve.checkpoint import FILE_NAME

        return self.path if self.path.suffix == ".safetensors" else self.path / FILE_NAME

    @property
    def folder(self) -> Path:
        """The folder that keeps the run's selections and bundle."""
        return self.file.parent

    @cached_property
    def subspace(self) -> Subspace:
        from subspace_serve.checkpoint import load_subspace

        return load_subspace(self.file, architecture=self.arch)

    @cached_property
    def checkpoint_sha256(self) -> str:
        from subspace_serve.files import sha256_of

        return sha256_of(self.file)

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
    def calibration(self) -> CalibrationData:
        from subspace_serve.calibration_data import draw_calibration_data
        from subspace_serve.devices import choose_device

        return draw_calibration_data(
            self.data.train,
            self.preprocessing,
            name=f"{self._recorded('data', 'spec')}:train",
            count=self.calibration_count,
            batch_size=self.calibration_batch,
            seed=self.seed,
            device=choose_device(self.device),
        )

    def images(self, spec: str) -> Images:
        """Return the labelled images that a specification names; `test`, `validation` and `train` are the run's own."""
        from subspace_serve.data import load_images

        own = {"test", "validation", "train"}
        if spec in own:
            return getattr(self.data, spec)
        architecture = self.subspace.architecture
        return load_images(
            spec,
            height=architecture.height,
            width=architecture.width,
            channels=architecture.channels,
            label_names=self.labels,
            validation=self._recorded("training", "validation"),
            seed=self._recorded("training", "data_seed"),
            resize=self._recorded("training", "image_size") is not None,
        )

    def selections(self) -> dict[str, dict[str, Any]]:
        """Return what `select` stored for this run."""
        from subspace_serve.select import read_selections

        return read_selections(self.folder, self.checkpoint_sha256)

    def _recorded(self, *keys: str) -> Any:
        from subspace_serve.checkpoint import provenance_value

        return provenance_value(self.subspace, *keys)
