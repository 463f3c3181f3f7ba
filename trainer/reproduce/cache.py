"""Runs and measurements on disk, by the hash of what they depend on.

cache/HASH/entry.json       the settings, and the version of the cache
cache/HASH/run/             the run's folder, with its weights
cache/HASH/finished         there once the run is finished
cache/measured/HASH.json    what was measured, of what, and on which hardware: small, may lie elsewhere than the runs
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from subspace_serve.data import DataSet
from subspace_serve.errors import TrainingError
from subspace_serve.files import held, write_text
from trainer.config import TrainingConfig
from trainer.preparation import prepared_data
from trainer.reproduce.contained import take_part
from trainer.reproduce.hardware import hardware
from trainer.run_folder import RunFolder
from trainer.training import train

VERSION = 1
"""To be raised when the same settings no longer give the same run or measurement."""


_ADDED: dict[str, Any] = {"channels": None, "normalisation": "data", "graphs": True}
"""Settings that were added later, with the values that have no effect: those are left out of the hash, so that earlier
entries are still found."""

_OF_DATA = (
    *("data", "validation", "data_seed", "image_size", "channels"),
    *("train_images", "label_noise", "early_stopping"),
)


class BusyError(Exception):
    """Another process is working on this entry."""


@dataclass(frozen=True)
class Cache:
    """A folder of runs and measurements.

    Attributes:
        path: the folder.
        say: called with a line for each run and each measurement.
        measurements: the folder of measurements, None for the cache's own; they can be kept without the runs.
    """

    path: Path
    say: Callable[[str], None] = lambda line: None
    measurements: Path | None = None

    def run(self, config: TrainingConfig, whole: TrainingConfig | None = None) -> Path:
        """Return the folder of the finished run with these settings, training it or going on with it if need be.

        Args:
            config: the settings.
            whole: a run that contains it (see `contained`), trained in its place; None trains it alone.

        Raises:
            BusyError: another process is training it, or the run that contains it.
            TrainingError: the entry is damaged or of another version of the cache.
            SubspaceServeError: as `trainer.training.train` and `prepared_data`, if it has to be trained.
        """
        folder = self._entry(config)
        run = folder / "run"
        if (folder / "finished").exists():
            return run
        with self._ours(folder):
            if (folder / "finished").exists():  # by another process, just now
                return run
            if whole is not None:
                take_part(config, data_of(config), self.run(whole), run)
            else:
                self._train(config, run)
            write_text(folder / "finished", "")
        return run

    def _train(self, config: TrainingConfig, run: Path) -> None:
        """Train the run, or go on with it."""
        resume = RunFolder(run).config_file.exists()
        if run.exists() and not resume:  # killed before it had written anything
            shutil.rmtree(run)
        train(config, run, resume=resume, data=data_of(config), report=lambda record: self._report(config, record))

    def finished(self, config: TrainingConfig) -> bool:
        """Return whether the run is finished."""
        return (self._folder(config) / "finished").exists()

    def known(self, config: TrainingConfig, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return what was measured on a run; None if nothing was.

        Raises:
            TrainingError: the file is damaged, or of another version of the cache.
        """
        file = self.measured_file(config, key)
        if not file.exists():
            return None
        return self._read(file, file, "measured")

    def hardware(self, config: TrainingConfig, key: dict[str, Any]) -> str:
        """Return on what something was measured; `unrecorded hardware` where its file does not say.

        Raises:
            TrainingError: the file is damaged, or of another version of the cache.
        """
        file = self.measured_file(config, key)
        return self._read(file, file, "hardware", "unrecorded hardware")

    def measurement(
        self, config: TrainingConfig, key: dict[str, Any], measure: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return what was measured on a run, measuring it if it has not been.

        Args:
            config: the run's settings.
            key: what else the measurement depends on, as JSON values.
            measure: makes the measurement.

        Raises:
            BusyError: another process is training this run or measuring on it.
            TrainingError: the file or the run's entry is damaged, or of another version of the cache.
        """
        known = self.known(config, key)
        if known is not None:
            return known
        with self._ours(self._entry(config)):
            file = self.measured_file(config, key)
            if not file.exists():  # else another process made it just now
                document = {
                    "version": VERSION,
                    "settings": config.to_json(),
                    "key": key,
                    "hardware": hardware(config.device),
                    "measured": measure(),
                }
                file.parent.mkdir(parents=True, exist_ok=True)
                write_text(file, json.dumps(document) + "\n")
                self.say(f"measured {key['measure']} on {config.run_name}")
        return self._read(file, file, "measured")

    def measured_file(self, config: TrainingConfig, key: dict[str, Any]) -> Path:
        """Return the file of a measurement, whether it exists or not."""
        folder = self.measurements or self.path / "measured"
        return folder / f"{_hash({'settings': identity_of(config), 'key': key})}.json"

    def _folder(self, config: TrainingConfig) -> Path:
        return self.path / _hash(identity_of(config))

    def _entry(self, config: TrainingConfig) -> Path:
        """Return the folder of an entry, making it if need be; refuse one of another version."""
        folder = self._folder(config)
        file = folder / "entry.json"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps({"version": VERSION, "settings": config.to_json()}, indent=1) + "\n")
        self._read(file, folder, "settings")
        return folder

    def _read(self, file: Path, entry: Path, field: str, absent: Any = None) -> Any:
        """Return a field of a document, or what stands for it where it may be absent.

        The message of an error tells the user to remove `entry`.
        """
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            version, value = document["version"], document[field] if absent is None else document.get(field, absent)
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{file} is damaged ({error}); remove {entry} and run again") from error
        if version != VERSION:
            raise TrainingError(
                f"{entry} was made by version {version} of the cache and this program makes version {VERSION}; remove "
                "it, or give another cache (--cache)"
            )
        return value

    @contextlib.contextmanager
    def _ours(self, folder: Path) -> Iterator[None]:
        """Hold an entry's lock while the block runs; a process that ends releases its own."""
        with held(folder) as ours:
            if not ours:
                raise BusyError(folder)
            yield

    def _report(self, config: TrainingConfig, record: dict[str, Any]) -> None:
        if config.members or record["epoch"] == config.epochs:
            self.say(f"trained {config.run_name}: loss {record['loss']:.3f}, {record['seconds']:.1f} s an epoch")


def data_of(config: TrainingConfig) -> DataSet:
    """Return a run's data. The last few data sets are kept in memory, since many runs in a row use the same."""
    return _loaded(tuple((name, getattr(config, name)) for name in _OF_DATA))


@lru_cache(maxsize=4)
def _loaded(settings: tuple[tuple[str, Any], ...]) -> DataSet:
    return prepared_data(TrainingConfig(subspace="standard", **dict(settings)), download=False)


def identity_of(config: TrainingConfig) -> dict[str, Any]:
    """Return the settings that distinguish a run from others, also from those made before a setting was added."""
    return {name: value for name, value in config.to_json().items() if name not in _ADDED or value != _ADDED[name]}


def _hash(document: dict[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
