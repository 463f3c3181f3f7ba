"""The bundle that a running server answers from: a checked copy of its own.

A server copies the bundle into its state folder, verifies the copy on the provider that will serve, and only then
points `current` at it. So later changes to the original have no effect until the next reload, a restarted worker finds
what the others serve, and a bad bundle never replaces a good one.

    STATE/current -> bundles/NAME      the copy that is served
    STATE/workers/PID                  what each worker serves
    STATE/metrics/                     Prometheus's files
    STATE/drift/                       the streams that the drift alarm watches (`service.drift_store`)

`python -m service.staging` does this in a separate process, so that verifying the graphs leaves no memory behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.logs import logger
from service.settings import CONFIG_VARIABLE, Settings
from subspace_serve.bundle.gate import check_gates, failed, in_float, repeat_gates
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.reader import Bundle
from subspace_serve.bundle.verify import verify_bundle
from subspace_serve.errors import BundleError, SubspaceServeError
from subspace_serve.files import MANIFEST_FILE, sha256_of

STATE_VARIABLE = "SUBSPACE_SERVE_STATE"

ROOT = Path(__file__).parent.parent
_PREFIX = "subspace-serve-state-"
_YOUNG_SECONDS = 60  # between being made and being locked a folder looks abandoned
_RELOAD_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_KEPT = 2  # the bundle being served and the previous one, which a worker may still be opening


class BusyError(SubspaceServeError):
    """Another reload is under way."""


@dataclass(frozen=True)
class State:
    """A server's state folder."""

    folder: Path

    @classmethod
    def create(cls) -> State:
        """Make a new state folder among the temporary files, and remove those of servers that were killed.

        It stays locked for as long as this process lives. The lock also keeps systemd-tmpfiles from cleaning it up.
        """
        _remove_abandoned()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)
        for name in ("bundles", "workers", "metrics", "drift"):
            (folder / name).mkdir()
        return cls(folder)

    @classmethod
    def from_environment(cls) -> State | None:
        """Return the state folder that a server's processes share, or None if this is not one of them."""
        folder = os.environ.get(STATE_VARIABLE)
        return cls(Path(folder)) if folder else None

    def environment(self) -> dict[str, str]:
        """Return the environment variables that tell a server's processes about this folder."""
        return {STATE_VARIABLE: str(self.folder), "PROMETHEUS_MULTIPROC_DIR": str(self.folder / "metrics")}

    def current(self) -> Path | None:
        """Return the folder of the bundle to serve; None before one was staged."""
        try:
            return self.folder / os.readlink(self.folder / "current")
        except FileNotFoundError:
            return None

    def is_loading(self) -> None:
        """Note that this process will serve but does not yet; to be called before it reads `current`."""
        self._note("")

    def serves(self, bundle: Path) -> None:
        """Note that this process serves a bundle."""
        self._note(bundle.name)

    def workers(self) -> list[str]:
        """Return the name of the bundle that each living worker serves, or an empty string if it serves none yet."""
        found = []
        for file in (self.folder / "workers").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has just been replaced
                if not file.suffix and _is_alive(int(file.name)):
                    found.append(file.read_text())
        return found

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _note(self, text: str) -> None:
        file = self.folder / "workers" / str(os.getpid())
        temporary = file.with_suffix(".tmp")
        temporary.write_text(text)
        os.replace(temporary, file)

    def next_bundle(self) -> Path:
        """Return a path for the next bundle; it sorts after all others (a number, since a clock may be set back)."""
        names = [int(folder.name) for folder in (self.folder / "bundles").iterdir()]
        return self.folder / "bundles" / f"{max(names, default=0) + 1:010d}"

    def switch(self, bundle: Path) -> None:
        """Make a bundle in `bundles` the one to serve, and remove those that are no longer needed."""
        link = self.folder / "current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(bundle.relative_to(self.folder))
        os.replace(link, self.folder / "current")
        for old in sorted((self.folder / "bundles").iterdir())[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from staging while the block runs. Raises `BusyError` when another process is staging."""
        with open(self.folder / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError("another reload is under way; try again when it is done") from None
            yield


def make_predictor(settings: Settings, bundle: Path | None = None, *, gates: bool = False) -> Predictor:
    """Open a bundle, hashes checked, with the configured ensembles and default; no graph is loaded yet.

    With `gates`, those of points in fp16 and int8 are repeated first, and the configuration says what follows.
    """
    opened = Bundle.open(bundle or settings.bundle)
    return Predictor(
        _gated(settings, opened) if gates else opened,
        device=settings.device,
        threads=settings.threads_per_worker,
        ensembles={name: ensemble.as_ensemble() for name, ensemble in settings.ensembles.items()},
        default=settings.default,
        models=settings.models,
        # If the models are listed, nothing else answers, and so no other place either.
        anywhere=settings.alpha_memory > 0 and settings.models is None,
        step=settings.alpha_step,
    )


def _gated(settings: Settings, bundle: Bundle) -> Bundle:
    """Return what serves of a bundle: points that do not pass their gates here are their float points."""
    if settings.precision_gate == "off":
        return bundle
    reports = repeat_gates(bundle, device=settings.device, threads=settings.threads_per_worker)
    if settings.precision_gate == "refuse":
        check_gates(reports)
    reasons = failed(reports)
    for reason in reasons.values():
        logger.warning("answering in float: %s", reason)
    return in_float(bundle, reasons)


def stage(settings: Settings, state: State) -> dict[str, Any]:
    """Copy the configured bundle, verify the copy and make it the one to serve; return the verification's report.

    Raises `BundleError` when anything about the bundle is wrong, and `BusyError` when another process is staging; then
    everything is left as it was.
    """
    with state.locked():
        target = state.next_bundle()
        try:
            _copy(Bundle.open(settings.bundle, check_hashes=False), target)
            _check_configuration(settings, target)
            report = verify_bundle(
                target,
                device=settings.device,
                threads=settings.threads_per_worker,
                gates=settings.precision_gate,
            ).to_json()
            state.switch(target)
        except BaseException as error:
            shutil.rmtree(target, ignore_errors=True)
            if isinstance(error, BundleError):
                # The copy's path means nothing to the reader.
                raise BundleError(str(error).replace(str(target), str(settings.bundle))) from None
            raise
    return report | {"bundle": str(settings.bundle), "staged": str(target), "sha256": sha256_of(target / MANIFEST_FILE)}


def stage_in_subprocess(settings: Settings, state: State) -> dict[str, Any]:
    """Call `stage` in a separate process. Raises `BusyError` or `BundleError` with its message."""
    environment = {**os.environ, **settings.to_environment(), **state.environment()}
    environment.pop(CONFIG_VARIABLE, None)  # its settings are included; its path may be relative to another folder
    command = [sys.executable, "-m", "service.staging"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        message = done.stderr.strip().rsplit("\n", 1)[-1] or f"staging ended with status {done.returncode}"
        raise BusyError(message) if done.returncode == _BUSY else BundleError(message)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


async def reload(settings: Settings, state: State) -> str:
    """Stage the bundle again and return the SHA-256 of the manifest that is served once every worker serves it.

    Workers that have gone on to a later reload's bundle serve that one. Raises `BundleError` when the bundle is bad,
    and `BusyError` during another reload; the old one is still served then. Raises `BundleError` too when some worker
    still serves an older bundle after a minute.
    """
    report = await asyncio.to_thread(stage_in_subprocess, settings, state)
    staged = Path(report["staged"])
    end = time.monotonic() + _RELOAD_SECONDS
    while time.monotonic() < end:
        oldest = min(state.workers(), default="")  # names sort as they were staged, after an empty one
        if oldest >= staged.name:
            with contextlib.suppress(FileNotFoundError):  # two more were staged since, and workers are about to move on
                return sha256_of(staged.with_name(oldest) / MANIFEST_FILE)
        await asyncio.sleep(_LOOK_SECONDS)
    raise BundleError(f"after {_RELOAD_SECONDS:g} s some worker still serves the old bundle; see its log")


_BUSY = 3


def main() -> int:
    """Stage as the environment says, and print the report as JSON; return the exit status.

    Errors go to standard error: status 1, 2 without a state folder, 3 while another process is staging.
    """
    state = State.from_environment()
    if state is None:
        print(f"{STATE_VARIABLE} is not set; `subspace-serve serve` sets it", file=sys.stderr)
        return 2
    try:
        print(json.dumps(stage(Settings.from_environment(), state)))
    except (SubspaceServeError, OSError) as error:
        print(str(error), file=sys.stderr)
        return _BUSY if isinstance(error, BusyError) else 1
    return 0


def _remove_abandoned() -> None:
    """Remove the state folders, older than a minute, that no server holds locked."""
    for folder in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):  # another user's, or removed by another server
            if time.time() - folder.stat().st_mtime < _YOUNG_SECONDS:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _copy(bundle: Bundle, target: Path) -> None:
    target.mkdir()
    for name in (MANIFEST_FILE, *bundle.manifest.files):
        shutil.copyfile(bundle.folder / name, target / name)


def _check_configuration(settings: Settings, bundle: Path) -> None:
    """Check hashes, and that the configured models fit, before graphs are loaded."""
    predictor = make_predictor(settings, bundle)
    most = max((len(ensemble.members) for ensemble in predictor.ensembles.values()), default=1)
    if settings.quorum > most:
        raise BundleError(f"the quorum is {settings.quorum} and no ensemble has more than {most} members; lower it")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


if __name__ == "__main__":
    sys.exit(main())
