"""Where the streams are kept that the drift alarm watches: one of each model, for all worker processes together."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.logs import logger
from subspace_serve.drift import Stream

_ARRAYS = ("counts", "stakes", "wealth", "highest")


@dataclass
class Kept:
    """A model's stream, and when it raised the alarm (`time.time`); None before."""

    stream: Stream
    since: float | None = None

    def to_json(self) -> str:
        """Return it as JSON in Python's dialect, which has infinities."""
        arrays = {name: getattr(self.stream, name).tolist() for name in _ARRAYS}
        return json.dumps(asdict(self.stream) | arrays | {"since": self.since})

    @classmethod
    def from_json(cls, text: str) -> Kept:
        """Read what `to_json` returned."""
        document: dict[str, Any] = json.loads(text)
        since = document.pop("since")
        return cls(Stream(**document | {name: np.array(document[name]) for name in _ARRAYS}), since)


class DriftStore:
    """The streams of one bundle, in a folder that processes share, or without one in memory.

    A file is replaced in one step under a lock, so that a process that is killed leaves the old one or the new one.
    """

    def __init__(self, folder: Path | None, bundle: str) -> None:
        """Keep the streams of the bundle with this SHA-256, and remove those of others."""
        self._folder = folder
        self._bundle = bundle
        self._memory: dict[str, str] = {}
        self._lock = threading.Lock()
        if folder is not None:
            with self._locked():
                for file in folder.glob("*.json"):
                    if not file.name.startswith(bundle):
                        file.unlink()

    def read(self, name: str, begin: Callable[[], Stream]) -> Kept:
        """Return a model's stream, or what `begin` returns where there is none. Raises `OSError`."""
        text = self._memory.get(name) if self._folder is None else _text(self._file(name))
        if text is not None:
            try:
                return Kept.from_json(text)
            except (ValueError, KeyError, TypeError):
                logger.error("the stream of %s that the drift alarm watched cannot be read; it begins anew", name)
        return Kept(begin())

    @contextlib.contextmanager
    def changing(self, name: str, begin: Callable[[], Stream]) -> Iterator[Kept]:
        """Yield a model's stream, and keep what the block makes of it. Raises `OSError`; then the old one stays."""
        with self._locked():
            kept = self.read(name, begin)
            yield kept
            self._write(name, kept.to_json())

    def _write(self, name: str, text: str) -> None:
        if self._folder is None:
            self._memory[name] = text
            return
        file = self._file(name)
        temporary = file.with_name(file.name + ".tmp")
        temporary.write_text(text)
        os.replace(temporary, file)

    def _file(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._bundle}-{name}.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock, contextlib.ExitStack() as stack:
            if self._folder is not None:
                fcntl.flock(stack.enter_context(open(self._folder / "lock", "w")), fcntl.LOCK_EX)
            yield


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except FileNotFoundError:
        return None
