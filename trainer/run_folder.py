"""What a training run keeps on disk, and how it is resumed.

config.json             the settings, written first
metrics.jsonl           one line per epoch
resume.pt               endpoints, momentum, and how far the run has come
subspace.safetensors    the subspace after the last finished epoch
skeleton.onnx           the graph of its networks, without weights
golden.safetensors      torch's answers, once the run is finished
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from subspace_serve.errors import TrainingError
from subspace_serve.files import atomic_file, held, pinned, write_text
from subspace_serve.network.skeleton import FILE_NAME as SKELETON_FILE
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.run.metrics import FILE_NAME as METRICS_FILE
from subspace_serve.space.checkpoint import FILE_NAME
from trainer.config import TrainingConfig
from trainer.methods import NEUTRAL
from trainer.parameters import EndpointMatrix
from trainer.progress import Progress

RESUME_VERSION = 3
LATEST = "latest"
_FILES = "|".join(map(re.escape, ("config.json", METRICS_FILE, "resume.pt", FILE_NAME, SKELETON_FILE)))
_LEFT = re.compile(rf"{_FILES}|tensorboard|\.({_FILES})\.[a-z0-9_]{{8}}\.tmp")
"""What a run leaves that was ended before its first epoch was: also what was being written (see `atomic_file`)."""


@dataclass(frozen=True)
class TrainedOn:
    """What must be the same when a run is resumed.

    Attributes:
        decoded_size: height of its images in pixels, to which image files are resized again.
        fingerprint: of its data.
    """

    decoded_size: int
    fingerprint: str


@dataclass(frozen=True)
class RunFolder:
    """A training run's folder.

    Attributes:
        path: the folder; of a link, the folder that it points at now.
    """

    path: Path

    def __post_init__(self) -> None:
        # A link such as runs/latest may point at another run while this one is still trained.
        object.__setattr__(self, "path", pinned(self.path))

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def resume_file(self) -> Path:
        return self.path / "resume.pt"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training in the folder while the block runs.

        Raises:
            TrainingError: another process trains in it, or it cannot be a folder.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise TrainingError(f"{self.path} is no folder, or lies in a file; choose another folder (--out)") from None
        with held(self.path) as ours:
            if not ours:
                raise TrainingError(
                    f"another process is training in {self.path}; wait until it ends, or choose another folder (--out)"
                )
            try:
                yield
            finally:
                for folder in made:
                    if any(folder.iterdir()):
                        break
                    folder.rmdir()

    def check_free(self, *, overwrite: bool) -> None:
        """Refuse a folder in which no new run can begin.

        Raises:
            TrainingError: it holds a run already and `overwrite` is false, or it holds something other than a run.
        """
        names = sorted(os.listdir(self.path))
        if not names:
            return
        if not self.config_file.is_file():
            raise TrainingError(f"{self.path} exists and is not a run; choose another folder (--out)")
        finished = self.resume_file.exists() or (self.path / FILE_NAME).exists()
        if finished and not overwrite:
            raise TrainingError(
                f"{self.path} already holds a run; continue it (--resume {self.path}), replace it (--overwrite) "
                "or choose another folder (--out)"
            )
        # Everything in the folder will be removed, and many a program's folder has a config.json.
        try:
            self.read_config()
        except TrainingError as error:
            raise TrainingError(
                f"{self.path} holds no settings of a run that this version can read "
                f"({str(error).partition('; ')[0]}), so nothing in it is replaced; move it away, or choose another "
                "folder (--out)"
            ) from None
        # A folder in which no epoch was finished counts as empty.
        if not finished and (others := [name for name in names if not _LEFT.fullmatch(name)]):
            raise TrainingError(
                f"{self.path} holds no checkpoint, and {', '.join(others[:5])} beside its settings; choose another "
                "folder (--out)"
            )

    def create(self, config: TrainingConfig) -> None:
        """Begin a new run, removing everything that is in the folder."""
        # The folder itself stays: it is held, and may be a mount point.
        for entry in list(self.path.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        write_text(self.config_file, json.dumps(config.to_json(), indent=2) + "\n")

    def write_skeleton(self, skeleton: Skeleton) -> None:
        """Write the graph of the run's networks, unless it is there already."""
        file = self.path / SKELETON_FILE
        if not file.exists() or file.read_bytes() != skeleton.data:
            with atomic_file(file) as temporary:
                temporary.write_bytes(skeleton.data)

    def read_config(self) -> TrainingConfig:
        """Read the settings of an earlier run.

        Raises:
            TrainingError: there is no run in the folder, or its settings are damaged or unknown here.
        """
        try:
            document = json.loads(self.config_file.read_text(encoding="utf-8"))
            # Runs from before these settings existed were trained without them.
            return TrainingConfig(**NEUTRAL | document)
        except FileNotFoundError:
            raise TrainingError(f"{self.path} holds no run to resume: it has no config.json") from None
        except TrainingError as error:
            raise TrainingError(f"{self.config_file}: {error}") from None
        except (ValueError, TypeError) as error:
            raise TrainingError(f"{self.config_file} is damaged ({error}); start the run anew") from error

    def save_progress(self, endpoints: EndpointMatrix, progress: Progress, data: TrainedOn) -> None:
        """Record the state after the last finished epoch, atomically.

        Raises:
            TrainingError: it cannot be written; the earlier record is unchanged.
        """
        state = {
            "version": RESUME_VERSION,
            "data": asdict(data),
            "values": endpoints.values.cpu(),
            "velocity": endpoints.velocity.cpu(),
            **progress.state(),
        }
        try:
            with atomic_file(self.resume_file) as temporary:
                torch.save(state, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise TrainingError(
                f"{self.resume_file} cannot be written: is the disk full? Make room and go on with --resume {self.path}"
            ) from error

    def trained_on(self) -> TrainedOn | None:
        """Return what the run has been trained on; None if no epoch was finished.

        Raises:
            TrainingError: the record is damaged, or of another version.
        """
        with self._recorded() as state:
            return None if state is None else TrainedOn(**state["data"])

    def load_progress(self, endpoints: EndpointMatrix) -> Progress:
        """Restore the recorded state, if there is one, into `endpoints`; return how far the run has come.

        Raises:
            TrainingError: the record is damaged, of another version, or of another network.
        """
        with self._recorded() as state:
            if state is None:
                return Progress()
            if state["values"].shape != endpoints.values.shape:
                raise TrainingError(f"{self.resume_file} belongs to another network; start the run anew")
            progress = Progress.from_state(state, endpoints.values.device)
            endpoints.values.copy_(state["values"])
            endpoints.velocity.copy_(state["velocity"])
            return progress

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[dict[str, Any] | None]:
        """Yield the recorded state, or None; an exception while the block uses it counts as damage to the file."""
        try:
            if not self.resume_file.exists():
                yield None
                return
            state = torch.load(self.resume_file, map_location="cpu", weights_only=True)
            if state["version"] != RESUME_VERSION:
                raise TrainingError(
                    f"{self.resume_file} has version {state['version']}, not {RESUME_VERSION}; finish the run with the "
                    "program that started it, or start it anew"
                )
            yield state
        except TrainingError:
            raise
        except Exception as error:  # damaged bytes make torch.load fail in any way
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(f"{self.resume_file} is damaged ({reason}); start the run anew") from error

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Write one line per epoch, atomically."""
        write_text(self.path / METRICS_FILE, "".join(json.dumps(record) + "\n" for record in records))


def point_latest_at(run: Path) -> None:
    """Point `runs/latest` at a run, when it lies in a folder named `runs`."""
    # A link, such as `latest` itself, would point at itself.
    here = run.resolve() if run.is_symlink() else run.absolute()
    runs, link = here.parent, here.parent / LATEST
    if runs.name != "runs" or (link.exists() and not link.is_symlink()):
        return
    temporary = runs / f".{LATEST}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(here.name)
    os.replace(temporary, link)
